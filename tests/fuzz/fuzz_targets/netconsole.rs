//! Any bytes into `bootline::fuzz::netconsole`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootline::fuzz::netconsole(bytes));
