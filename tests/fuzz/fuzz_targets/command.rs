//! Any bytes into `bootline::fuzz::command`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootline::fuzz::command(bytes));
