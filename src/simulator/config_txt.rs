//! `config.txt` as far as the names of boot files follow from it (documentation of Raspberry Pi, `config_txt`). Pure.

use crate::simulator::board::{Board, Model};

/// What the lines that apply to a board say; of a setting that comes again the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub kernel: Option<String>,
    pub initramfs: Vec<String>,
    /// `initramfs8` or `initramfs_2712` beside the kernel.
    pub auto_initramfs: bool,
    pub overlays: Vec<String>,
    pub cmdline: String,
    pub start_file: Option<String>,
    pub fixup_file: Option<String>,
    /// `start_x=1` and `gpu_mem=16` choose another firmware of the same kind.
    pub variant: Variant,
    pub arm_64bit: Option<bool>,
    pub os_check: bool,
}

/// Which of the firmware files of a Pi 4 is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Plain,
    /// `start4x.elf`
    Camera,
    /// `start4cd.elf`
    CutDown,
}

impl Variant {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Camera => "x",
            Self::CutDown => "cd",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kernel: None,
            initramfs: Vec::new(),
            auto_initramfs: false,
            overlays: Vec::new(),
            cmdline: "cmdline.txt".to_owned(),
            start_file: None,
            fixup_file: None,
            variant: Variant::Plain,
            arm_64bit: None,
            os_check: true,
        }
    }
}

impl Config {
    pub fn read(text: &[u8], board: Board) -> Self {
        let mut config = Self::default();
        let mut filters = Filters::default();
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.trim();
            if let Some(filter) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                filters.set(filter, board);
            } else if !line.starts_with('#') && filters.apply() {
                config.line(line);
            }
        }
        config
    }

    fn line(&mut self, line: &str) {
        // The one setting without "=".
        if let Some(rest) = line.strip_prefix("initramfs ") {
            let files = rest.split_whitespace().next().unwrap_or_default();
            self.initramfs = files.split(',').filter(|file| !file.is_empty()).map(str::to_owned).collect();
            return;
        }
        let Some((name, value)) = line.split_once('=') else {
            return;
        };
        let (name, value) = (name.trim(), value.trim());
        let file = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            "kernel" => self.kernel = file(),
            "ramfsfile" => self.initramfs = value.split(',').map(str::to_owned).collect(),
            "auto_initramfs" => self.auto_initramfs = value == "1",
            "dtoverlay" => {
                let overlay = value.split([',', ':']).next().unwrap_or_default();
                if !overlay.is_empty() && !self.overlays.iter().any(|known| known == overlay) {
                    self.overlays.push(overlay.to_owned());
                }
            }
            "cmdline" => self.cmdline = value.to_owned(),
            "start_file" => self.start_file = file(),
            "fixup_file" => self.fixup_file = file(),
            "start_x" if value == "1" => self.variant = Variant::Camera,
            "gpu_mem" if value == "16" => self.variant = Variant::CutDown,
            "arm_64bit" => self.arm_64bit = Some(value != "0"),
            "os_check" => self.os_check = value != "0",
            _ => {}
        }
    }
}

/// Filters of one kind replace each other, those of different kinds add up, `[all]` lifts all.
#[derive(Clone, Copy, Debug)]
struct Filters {
    model: bool,
    serial: bool,
    board_type: bool,
    other: bool,
}

impl Default for Filters {
    fn default() -> Self {
        Self { model: true, serial: true, board_type: true, other: true }
    }
}

impl Filters {
    fn set(&mut self, filter: &str, board: Board) {
        let filter = filter.trim().to_ascii_lowercase();
        if filter == "all" {
            *self = Self::default();
        } else if let Some(digits) = filter.strip_prefix("0x") {
            self.serial = u32::from_str_radix(digits, 16) == Ok(board.serial.low().0);
        } else if let Some(digits) = filter.strip_prefix("board-type=0x") {
            self.board_type = u32::from_str_radix(digits, 16) == Ok((board.revision.0 >> 4) & 0xff);
        } else if filter == "none" || filter.starts_with("pi") || filter.starts_with("cm") {
            self.model = names(board.model).contains(&filter.as_str());
        } else {
            // A pin, a monitor, tryboot: nothing of it is there.
            self.other = false;
        }
    }

    const fn apply(self) -> bool {
        self.model && self.serial && self.board_type && self.other
    }
}

/// The filters that a model answers to; a module answers to those of its family.
const fn names(model: Model) -> &'static [&'static str] {
    match model {
        Model::Pi3 => &["pi3"],
        Model::Pi4 => &["pi4"],
        Model::Cm4 => &["pi4", "cm4"],
        Model::Pi5 => &["pi5"],
        Model::Cm5 => &["pi5", "cm5"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::{Mac, Serial};

    fn read(model: Model, text: &str) -> Config {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let board = Board { model, mac, serial: Serial(0x1000_0000_dead_beef), revision: model.revision() };
        Config::read(text.as_bytes(), board)
    }

    #[test]
    fn the_stations_own_config_has_an_overlay_for_cm4_alone() {
        let text = include_str!("../../bootfiles/config.txt");
        for model in Model::ALL {
            let config = read(model, text);
            assert_eq!(config.overlays.contains(&"spi-gpio40-45".to_owned()), model == Model::Cm4, "{model:?}");
        }
        assert!(!read(Model::Cm4, text).initramfs.is_empty());
    }

    #[test]
    fn filters_of_one_kind_replace_each_other_and_kinds_add_up() {
        let text = "[cm4]\nkernel=a\n[pi5]\nkernel=b\n[0xDEADBEEF]\nkernel=c\n[0x1]\nkernel=d\n[all]\ncmdline=e\n\
                    [board-type=0x14]\nstart_file=f\n[gpio4=1]\nfixup_file=g\n[none]\nkernel=h\n";
        let cm4 = read(Model::Cm4, text);
        assert_eq!((cm4.kernel.as_deref(), cm4.cmdline.as_str()), (Some("a"), "e"));
        assert_eq!((cm4.start_file.as_deref(), cm4.fixup_file), (Some("f"), None));
        assert_eq!(read(Model::Cm5, text).kernel.as_deref(), Some("c"));
        assert_eq!(read(Model::Pi3, text).kernel, None);
    }

    #[test]
    fn names_follow_the_settings() {
        let text = "initramfs a.img,b.img followkernel\ndtoverlay=dwc2,dr_mode=host\ndtoverlay=dwc2\n#kernel=no\n\
                    gpu_mem=16\nos_check=0\narm_64bit=0\nauto_initramfs=1\nkernel=\n rubbish \n[pi4]\ndtoverlay=\n";
        let config = read(Model::Pi4, text);
        assert_eq!(
            (config.initramfs, config.overlays),
            (vec!["a.img".into(), "b.img".into()], vec!["dwc2".to_owned()])
        );
        assert_eq!((config.variant, config.os_check, config.arm_64bit), (Variant::CutDown, false, Some(false)));
        assert_eq!((config.kernel, config.auto_initramfs), (None, true));
        assert_eq!(read(Model::Pi4, "start_x=1").variant, Variant::Camera);
    }
}
