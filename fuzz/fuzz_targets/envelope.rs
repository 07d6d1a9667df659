//! `cargo fuzz run envelope`: see `fairlead_fuzz::envelope` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_fuzz::envelope(bytes));
