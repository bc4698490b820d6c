//! What the tests of this room share: reading the golden packets.

use crate::dhcp::packet::Message;

/// The bytes of a `.hex` file: hex digits, blanks, and lines that begin with `#`.
pub fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::bytes)
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub fn golden(text: &str) -> Message {
    Message::parse(&bytes(text)).unwrap()
}
