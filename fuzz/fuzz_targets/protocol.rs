//! `cargo fuzz run protocol`: see `fairlead_fuzz::protocol` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fairlead_fuzz::protocol(bytes);
});
