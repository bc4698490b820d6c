//! The only place where a value meets a quote: whatever a value holds, to the shell it is one word of data.

use crate::core::script::VariableName;

/// `NAME='value'` and a line feed.
///
/// Inside single quotes a POSIX shell knows no special character but the closing quote, line feeds included. A NUL
/// cannot be in a word of the shell at all; it becomes the replacement character.
pub fn assignment(name: &'static str, value: &str) -> String {
    debug_assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
    quoted(name, value)
}

/// The same for a variable of a device, whose name was checked when it was read.
pub fn variable(name: &VariableName, value: &str) -> String {
    // Our own variables have no such prefix; scripts get the bare name.
    quoted(&format!("DATA_{name}"), value)
}

fn quoted(name: &str, value: &str) -> String {
    let value = value.replace('\0', "\u{fffd}").replace('\'', r"'\''");
    format!("{name}='{value}'\n")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use proptest::prelude::*;

    use super::*;

    const SHELLS: [&[&str]; 3] = [&["sh"], &["dash"], &["busybox", "sh"]];

    /// What the shell thinks that the value is.
    fn through(shell: &[&str], value: &str) -> Output {
        let script = format!("{}printf '%s' \"$VALUE\"", assignment("VALUE", value));
        Command::new(shell[0]).args(&shell[1..]).arg("-c").arg(script).output().unwrap()
    }

    fn assert_is_data(value: &str) {
        for shell in SHELLS {
            let output = through(shell, value);
            let expected = value.replace('\0', "\u{fffd}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{shell:?}");
            assert!(output.stderr.is_empty(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn hostile_values_stay_data() {
        for value in [
            "x\"; reboot; echo \"",
            "'; touch /tmp/owned; '",
            "'\\''",
            "\\",
            "$(touch /tmp/owned)`id`${HOME}",
            "a\nreboot\n#",
            "\r\n\t\u{1b}[2J\0'",
            "-n",
            "ä\u{81}\u{88}\u{fffd}",
            "",
        ] {
            assert_is_data(value);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_value_stays_data(value in any::<String>()) {
            assert_is_data(&value);
        }

        #[test]
        fn any_mix_of_quotes_stays_data(value in "['\"\\\\`$(){};\n\r #!*?~&|<>a0-]{0,40}") {
            assert_is_data(&value);
        }
    }
}
