//! Any bytes into `bootline::fuzz::option82`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootline::fuzz::option82(bytes));
