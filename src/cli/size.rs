//! Sizes as a person writes them: `16MiB`, `64M`, `512`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes, a multiple of 512: what a medium or an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            _ => return Err(format!("not a size such as 64MiB: {text:?}")),
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        match bytes {
            Some(bytes) if bytes > 0 && bytes % 512 == 0 && bytes <= LARGEST => Ok(Self(bytes)),
            Some(bytes) => Err(format!("{bytes} bytes is not a multiple of 512 between 512 and 1 TiB")),
            None => Err(format!("not a size such as 64MiB: {text:?}")),
        }
    }
}

const LARGEST: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [("512", 512), ("16MiB", 16 << 20), ("64M", 64 << 20), ("1 GiB", 1 << 30), ("2k", 2048)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for wrong in ["", "MiB", "0", "513", "-1", "16MB", "99999999999999999999", "9999999G", "1.5G"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
