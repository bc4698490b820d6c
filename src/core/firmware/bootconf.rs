//! `bootconf.txt`, the configuration inside an EEPROM image: lines `KEY=VALUE` under filters such as `[cm4]`
//! (documentation of Raspberry Pi, `eeprom-bootloader.adoc` and `conditional.adoc`).

use std::collections::BTreeMap;

use crate::core::firmware::Chip;

/// What the bootloader does where nothing says otherwise: SD, then USB, then again. No network.
const DEFAULT_ORDER: u32 = 0xf41;
/// From this line to the end the text is not the bootloader's: it is appended to `config.txt`.
const CONFIG_TXT: &str = "[config.txt]";

/// Three-valued: a filter on a pin or a serial may hold or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    No,
    Maybe,
    Yes,
}

/// Filters on the model replace each other, others add up, `[all]` lifts all of them.
struct Filters {
    model: Holds,
    other: Holds,
}

impl Filters {
    const ALL: Self = Self { model: Holds::Yes, other: Holds::Yes };

    fn meet(&mut self, name: &str, chip: Chip) {
        let on = |own: Chip, holds| if chip == own { holds } else { Holds::No };
        match name {
            "all" => *self = Self::ALL,
            "none" => self.other = Holds::No,
            "pi4" => self.model = on(Chip::Bcm2711, Holds::Yes),
            "pi5" => self.model = on(Chip::Bcm2712, Holds::Yes),
            "cm4" | "cm4s" | "pi400" => self.model = on(Chip::Bcm2711, Holds::Maybe),
            "cm5" | "pi500" => self.model = on(Chip::Bcm2712, Holds::Maybe),
            "pi0" | "pi0w" | "pi02" | "pi1" | "pi2" | "pi3" | "pi3+" | "cm0" | "cm1" | "cm3" | "cm3+" => {
                self.model = Holds::No;
            }
            _ => self.other = self.other.min(Holds::Maybe),
        }
    }

    fn hold(&self) -> Holds {
        self.model.min(self.other)
    }
}

/// The bootloader's own part, and the part that is for `config.txt`.
fn parts(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim() == CONFIG_TXT {
            return text.split_at(at);
        }
        at += line.len();
    }
    (text, "")
}

fn filter_of(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']').map(str::trim)
}

fn assignment_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', '[']))?;
    Some((key.trim(), value.trim()))
}

/// Does every board of the chip get to the network, whatever the filters come to?
pub fn has_network(text: &str, chip: Chip) -> bool {
    let mut filters = Filters::ALL;
    let mut orders = vec![reaches_network(DEFAULT_ORDER)];
    for line in parts(text).0.lines() {
        if let Some(name) = filter_of(line) {
            filters.meet(name, chip);
        } else if let Some(("BOOT_ORDER", value)) = assignment_of(line) {
            // What the bootloader cannot read either is no way to the network.
            let reaches = number(value).is_some_and(reaches_network);
            match filters.hold() {
                Holds::Yes => orders = vec![reaches],
                Holds::Maybe => orders.push(reaches),
                Holds::No => {}
            }
        }
    }
    orders.into_iter().all(|reaches| reaches)
}

fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// The digits are boot modes, read from right to left: 2 is the network; nothing comes after 3 (rpiboot has no
/// timeout), e (stop) and f (begin again).
fn reaches_network(order: u32) -> bool {
    let digits = (0..8).map(|at| order >> (4 * at)).take_while(|rest| *rest != 0).map(|rest| rest & 0xf);
    digits.take_while(|digit| ![0x3, 0xe, 0xf].contains(digit)).any(|digit| digit == 2)
}

/// The text with these settings, for every board: what it said of the same keys is gone, under each filter.
pub fn with_settings(text: &str, settings: &BTreeMap<String, String>) -> String {
    if settings.is_empty() {
        return text.to_owned();
    }
    let (own, for_config) = parts(text);
    let mut lines = Vec::new();
    let mut filtered = false;
    for line in own.lines() {
        if let Some(name) = filter_of(line) {
            filtered = name != "all";
        }
        if assignment_of(line).is_none_or(|(key, _)| !settings.contains_key(key)) {
            lines.push(line.trim_end_matches('\r').to_owned());
        }
    }
    if filtered {
        lines.push("[all]".to_owned());
    }
    lines.extend(settings.iter().map(|(key, value)| format!("{key}={value}")));
    let mut edited = lines.join("\n");
    edited.push('\n');
    edited.push_str(for_config);
    edited
}

/// A key is `[A-Z][A-Z0-9_]*`, a value one line of printable ASCII.
pub fn check_setting(key: &str, value: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if !(1..=64).contains(&key.len()) || !key.bytes().all(plain) || !key.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Err(format!("not a key [A-Z][A-Z0-9_]* of at most 64 characters: {key:?}"));
    }
    if value.len() > 256 || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err("a value is at most 256 printable ASCII characters on one line".to_owned());
    }
    Ok(())
}

/// Printable ASCII, tabs and line feeds.
pub fn check_text(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !(' '..='~').contains(c) && *c != '\n' && *c != '\t') {
        None => Ok(()),
        Some(c) => Err(format!("bootconf.txt is printable ASCII in lines; there is {c:?} in it")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STOCK_2711: &str = "[all]\nBOOT_UART=0\nWAKE_ON_GPIO=1\nPOWER_OFF_ON_HALT=0\nNET_INSTALL_AT_POWER_ON=1\n";
    const STOCK_2712: &str = "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf461\nNET_INSTALL_AT_POWER_ON=1\n";

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn stock_images_do_not_boot_from_the_network() {
        assert!(!has_network(STOCK_2711, Chip::Bcm2711));
        assert!(!has_network(STOCK_2712, Chip::Bcm2712));
        assert!(!has_network("", Chip::Bcm2711));
    }

    #[test]
    fn the_digits_of_a_boot_order_are_read_from_the_right() {
        for (order, network) in [
            ("0xf25641", true),
            ("0xf2461", true),
            ("0xf12", true),
            ("0x2", true),
            ("0x12e", false),
            ("0xf412f1", false),
            ("0x2341", false),
            ("0xf41", false),
            ("0xf71", false),
            ("18", true),
            ("", false),
            ("0xg2", false),
            ("0xf2f2f2f2f2", false),
        ] {
            assert_eq!(has_network(&format!("BOOT_ORDER={order}\n"), Chip::Bcm2711), network, "{order}");
        }
    }

    #[test]
    fn filters_decide_for_whom_an_order_holds() {
        let cases = [
            ("BOOT_ORDER=0xf12\n[pi5]\nBOOT_ORDER=0xf41\n", true, false),
            ("[cm4]\nBOOT_ORDER=0xf12\n", false, false),
            ("BOOT_ORDER=0xf12\n[gpio4=1]\nBOOT_ORDER=0xf41\n", false, false),
            ("BOOT_ORDER=0xf12\n[gpio4=1]\nBOOT_ORDER=0xf21\n", true, true),
            ("[none]\nBOOT_ORDER=0xf12\n", false, false),
            ("[none]\n[pi4]\nBOOT_ORDER=0xf12\n", false, false),
            ("[pi3]\nBOOT_ORDER=0xf41\n[all]\nBOOT_ORDER=0xf12", true, true),
            ("[0x1234]\n[all]\n  BOOT_ORDER = 0xf12  ", true, true),
            ("#BOOT_ORDER=0xf12\n", false, false),
            ("BOOT_ORDER=0xf12\n[config.txt]\nBOOT_ORDER=0xf41\n", true, true),
            ("BOOT_ORDER=0xf12\r\n", true, true),
        ];
        for (text, on_2711, on_2712) in cases {
            assert_eq!(has_network(text, Chip::Bcm2711), on_2711, "{text:?}");
            assert_eq!(has_network(text, Chip::Bcm2712), on_2712, "{text:?}");
        }
    }

    #[test]
    fn settings_replace_what_the_text_said_under_any_filter() {
        let edited = with_settings(STOCK_2712, &set(&[("BOOT_ORDER", "0xf2461"), ("TFTP_PREFIX", "2")]));
        assert_eq!(edited, "[all]\nBOOT_UART=1\nNET_INSTALL_AT_POWER_ON=1\nBOOT_ORDER=0xf2461\nTFTP_PREFIX=2\n");
        let text = "A=1\n[cm4]\nA=2\nB=3\n[config.txt]\n[all]\nA=4\n";
        assert_eq!(with_settings(text, &set(&[("A", "5")])), "[cm4]\nB=3\n[all]\nA=5\n[config.txt]\n[all]\nA=4\n");
        assert_eq!(with_settings(text, &set(&[])), text);
        assert_eq!(with_settings("", &set(&[("A", "5")])), "A=5\n");
    }

    #[test]
    fn hostile_settings_are_refused() {
        assert!(check_setting("BOOT_ORDER", "0xf41").is_ok());
        assert!(check_setting("NETCONSOLE", "6665@169.254.1.1/,6666@/").is_ok());
        for (key, value) in
            [("", "1"), ("A=B", "1"), ("[all]", "1"), ("a", "1"), ("A", "1\nB=2"), ("A", "ü"), ("1A", "")]
        {
            assert!(check_setting(key, value).is_err(), "{key} {value}");
        }
        assert!(check_text("[all]\n\tA=1\n").is_ok());
        assert!(check_text("A=1\0").is_err() && check_text("A=ä").is_err() && check_text("A=1\r\n").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_a_setting_holds_in_what_comes_out(text in any::<String>(), value in "[ -~]{0,20}") {
            has_network(&text, Chip::Bcm2711);
            let settings = set(&[("BOOT_ORDER", "0xf12"), ("X", &value)]);
            let edited = with_settings(&text, &settings);
            prop_assert!(has_network(&edited, Chip::Bcm2711) && has_network(&edited, Chip::Bcm2712), "{edited:?}");
            prop_assert_eq!(with_settings(&edited, &settings), edited);
        }

        #[test]
        fn lines_of_the_language_too(lines in prop::collection::vec(
            prop::sample::select(vec!["[all]", "[cm4]", "[none]", "[pi5]", "[gpio4=1]", "[config.txt]", "BOOT_ORDER=0xf41", "A=1", "", "#"]),
            0..12,
        )) {
            let settings = set(&[("BOOT_ORDER", "0xf12")]);
            let edited = with_settings(&lines.join("\n"), &settings);
            prop_assert!(has_network(&edited, Chip::Bcm2711) && has_network(&edited, Chip::Bcm2712), "{edited:?}");
            prop_assert_eq!(with_settings(&edited, &settings), edited);
        }
    }
}
