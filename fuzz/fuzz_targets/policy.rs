//! `cargo fuzz run policy`: see `fairlead_fuzz::policy` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_fuzz::policy(bytes));
