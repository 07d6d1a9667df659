//! `cargo fuzz run self_description`: see `fairlead_fuzz::self_description` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_fuzz::self_description(bytes));
