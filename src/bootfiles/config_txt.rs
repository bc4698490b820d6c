//! What `config.txt` says to one board: the lines that apply to it, and the files that they name
//! (documentation of Raspberry Pi, `config_txt/conditional.adoc`).

use crate::bootfiles::model::Model;

/// A line `key=value`, or `key value` for the few that are written so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
}

/// The settings that apply to a board, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// The last one counts.
    pub fn last(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |setting| setting.key == key).map(|setting| setting.value.as_str())
    }

    pub fn is_on(&self, key: &str) -> bool {
        self.last(key) == Some("1")
    }
}

/// Reads the lines that apply to this board. What hangs on a pin, a monitor or a serial is left out: it is not the same
/// for all boards of a model.
pub fn read(text: &str, model: Model) -> Settings {
    let mut settings = Vec::new();
    let mut filters = Filters::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(filter) = line.strip_prefix('[') {
            filters.meet(filter.split(']').next().unwrap_or_default().trim(), model);
        } else if filters.let_pass() {
            settings.extend(setting(line));
        }
    }
    Settings(settings)
}

fn setting(line: &str) -> Option<Setting> {
    // "initramfs" and "include" have no equals sign; their value may.
    let spaced = ["initramfs ", "initramfs\t", "include ", "include\t"].iter().any(|word| line.starts_with(word));
    let (key, value) = if spaced { line.split_once([' ', '\t'])? } else { line.split_once('=')? };
    Some(Setting { key: key.trim().to_owned(), value: value.trim().to_owned() })
}

/// Filters of the same kind replace each other, those of different kinds add up, and `[all]` takes all of them away.
#[derive(Debug, Default)]
struct Filters {
    other_model: bool,
    other_board_type: bool,
    none: bool,
    tryboot: bool,
    /// A pin, a monitor, a serial, a partition.
    circumstance: bool,
}

impl Filters {
    const fn let_pass(&self) -> bool {
        !(self.other_model || self.other_board_type || self.none || self.tryboot || self.circumstance)
    }

    fn meet(&mut self, filter: &str, model: Model) {
        let filter = filter.to_ascii_lowercase();
        match filter.as_str() {
            "all" => *self = Self::default(),
            "none" => self.none = true,
            "tryboot" => self.tryboot = true,
            _ if filter.starts_with("board-type=") => {
                let number = filter.trim_start_matches("board-type=").trim_start_matches("0x");
                let number = u32::from_str_radix(number, 16).ok();
                self.other_board_type = number.is_none_or(|number| !model.board_types().contains(&number));
            }
            _ if is_model(&filter) => self.other_model = !model.filters().contains(&filter.as_str()),
            _ => self.circumstance = true,
        }
    }
}

/// `pi4`, `pi3+`, `pi0w`, `cm4s`
fn is_model(filter: &str) -> bool {
    let rest = filter.strip_prefix("pi").or_else(|| filter.strip_prefix("cm"));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\[?\\PC{0,12}[\\]=]?\\PC{0,8}\n){0,8}") {
            for model in Model::ALL {
                prop_assert!(read(&text, model).0.len() <= text.lines().count());
            }
        }
    }

    fn values(text: &str, model: Model) -> Vec<String> {
        read(text, model).all("x").map(str::to_owned).collect()
    }

    #[test]
    fn each_board_reads_its_own_lines() {
        let text = "x=all\n[pi4]\nx=pi4\n[cm4]\nx=cm4\n[pi5]\nx=pi5\n[cm5]\nx=cm5\n[pi3]\nx=pi3\n[cm4s]\nx=cm4s\n\
            [pi400]\nx=pi400\n[none]\nx=none\n[pi4]\nx=still none\n[all]\nx=end\n";
        for (model, expected) in [
            (Model::Cm4, vec!["all", "pi4", "cm4", "end"]),
            (Model::Pi4, vec!["all", "pi4", "end"]),
            (Model::Pi5, vec!["all", "pi5", "end"]),
            (Model::Cm5, vec!["all", "pi5", "cm5", "end"]),
            (Model::Pi3, vec!["all", "pi3", "end"]),
        ] {
            assert_eq!(values(text, model), expected, "{model:?}");
        }
    }

    #[test]
    fn filters_of_different_kinds_add_up() {
        let text = "[gpio4=1]\nx=pin\n[cm4]\nx=both\n[all]\n[board-type=0x14]\nx=type\n[cm4]\nx=both\n[pi5]\nx=never\n\
            [all]\n[0xc0ffee12]\nx=serial\n[all]\n[EDID=A-B]\nx=monitor\n[all]\n[tryboot]\nx=try\n[all]\n[board-type=zz]\nx=odd";
        assert_eq!(values(text, Model::Cm4), ["type", "both"]);
        assert_eq!(values(text, Model::Pi5), [""; 0]);
    }

    #[test]
    fn the_last_value_counts_and_initramfs_has_no_equals_sign() {
        let settings =
            read("kernel=a\r\n kernel = b \n#kernel=c\ninitramfs s.img followkernel\nnonsense\n", Model::Cm4);
        assert_eq!(settings.last("kernel"), Some("b"));
        assert_eq!(settings.last("initramfs"), Some("s.img followkernel"));
        assert_eq!(settings.0.len(), 3);
    }
}
