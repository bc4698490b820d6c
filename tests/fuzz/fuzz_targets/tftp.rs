//! Any bytes into `bootline::fuzz::tftp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootline::fuzz::tftp(bytes));
