//! Any bytes into `bootline::fuzz::dhcp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootline::fuzz::dhcp(bytes));
