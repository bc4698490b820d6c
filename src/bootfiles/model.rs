//! The boards that netboot, and what the boot of each needs by name.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::core::device::Family;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// 3B and 3B+
    Pi3,
    /// CM3 and CM3+
    Cm3,
    /// 4B and 400
    Pi4,
    Cm4,
    /// 5 and 500
    Pi5,
    Cm5,
}

/// Each of a kind of board needs its own device tree.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    pub board: &'static str,
    /// The first that is there is taken.
    pub names: &'static [&'static str],
}

impl Model {
    pub const ALL: [Self; 6] = [Self::Pi3, Self::Cm3, Self::Pi4, Self::Cm4, Self::Pi5, Self::Cm5];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pi3 => "pi3",
            Self::Cm3 => "cm3",
            Self::Pi4 => "pi4",
            Self::Cm4 => "cm4",
            Self::Pi5 => "pi5",
            Self::Cm5 => "cm5",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Pi3 => "Pi 3B, 3B+",
            Self::Cm3 => "Compute Module 3",
            Self::Pi4 => "Pi 4B, 400",
            Self::Cm4 => "Compute Module 4",
            Self::Pi5 => "Pi 5, 500",
            Self::Cm5 => "Compute Module 5",
        }
    }

    pub const fn family(self) -> Family {
        match self {
            Self::Pi3 | Self::Cm3 => Family::Pi3,
            Self::Pi4 | Self::Cm4 => Family::Pi4,
            Self::Pi5 | Self::Cm5 => Family::Pi5,
        }
    }

    /// The filters of `config.txt` that let its lines pass. `[pi3+]` and `[pi400]` hold for some boards of a model only.
    pub const fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Pi3 | Self::Cm3 => &["pi3"],
            Self::Pi4 => &["pi4"],
            Self::Cm4 => &["pi4", "cm4"],
            Self::Pi5 => &["pi5"],
            Self::Cm5 => &["pi5", "cm5"],
        }
    }

    /// Of the revision code.
    pub const fn board_types(self) -> &'static [u32] {
        match self {
            Self::Pi3 => &[0x08, 0x0d],
            Self::Cm3 => &[0x0a, 0x10],
            Self::Pi4 => &[0x11, 0x13],
            Self::Cm4 => &[0x14],
            Self::Pi5 => &[0x17, 0x19],
            Self::Cm5 => &[0x18, 0x1a],
        }
    }

    pub const fn trees(self) -> &'static [Tree] {
        match self {
            Self::Pi3 => &[
                Tree { board: "3B", names: &["bcm2710-rpi-3-b.dtb"] },
                Tree { board: "3B+", names: &["bcm2710-rpi-3-b-plus.dtb"] },
            ],
            Self::Cm3 => &[Tree { board: "CM3", names: &["bcm2710-rpi-cm3.dtb"] }],
            Self::Pi4 => &[
                Tree { board: "4B", names: &["bcm2711-rpi-4-b.dtb"] },
                Tree { board: "400", names: &["bcm2711-rpi-400.dtb"] },
            ],
            Self::Cm4 => &[Tree { board: "CM4", names: &["bcm2711-rpi-cm4.dtb", "bcm2711-rpi-cm4-io.dtb"] }],
            Self::Pi5 => &[
                Tree { board: "5", names: &["bcm2712-rpi-5-b.dtb"] },
                Tree { board: "5 of stepping D0", names: &["bcm2712d0-rpi-5-b.dtb"] },
                Tree { board: "500", names: &["bcm2712-rpi-500.dtb"] },
            ],
            Self::Cm5 => &[
                Tree { board: "CM5", names: &["bcm2712-rpi-cm5-cm5io.dtb", "bcm2712-rpi-cm5-cm4io.dtb"] },
                Tree { board: "CM5 Lite", names: &["bcm2712-rpi-cm5l-cm5io.dtb", "bcm2712-rpi-cm5l-cm4io.dtb"] },
            ],
        }
    }

    /// The names that the firmware tries where `config.txt` names no kernel.
    pub const fn kernels(self) -> &'static [&'static str] {
        match self {
            Self::Pi3 | Self::Cm3 => &["kernel8.img", "kernel8-32.img", "kernel7.img", "kernel.img"],
            Self::Pi4 | Self::Cm4 => &["kernel8.img", "kernel8-32.img", "kernel7l.img", "kernel7.img", "kernel.img"],
            Self::Pi5 | Self::Cm5 => &["kernel_2712.img", "kernel8.img"],
        }
    }

    /// What is worth knowing and in no file.
    pub const fn note(self) -> Option<&'static str> {
        match self {
            Self::Cm3 => Some("has no Ethernet of its own: it boots by rpiboot over USB, not from this station"),
            Self::Cm5 => {
                Some("needs a kernel of 6.6 or newer and an initramfs for it; that of scriptexecutor (5.4) is too old")
            }
            Self::Pi5 => {
                Some("needs a kernel of 6.1 or newer and an initramfs for it; that of scriptexecutor (5.4) is too old")
            }
            Self::Pi3 | Self::Pi4 | Self::Cm4 => None,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|model| model.name() == text.to_ascii_lowercase()).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|model| model.name()).collect();
            format!("not one of {}: {text:?}", known.join(", "))
        })
    }
}

/// Whose file it is, where a name tells.
pub fn family_of(name: &str) -> Option<Family> {
    let families: [(&[&str], Family); 3] = [
        (&["bcm2712", "kernel_2712", "initramfs_2712"], Family::Pi5),
        (&["bcm2711", "kernel7l", "initramfs7l", "start4", "fixup4"], Family::Pi4),
        (&["bcm2710", "bootcode.bin", "start.elf", "start_", "fixup.dat", "fixup_"], Family::Pi3),
    ];
    families
        .into_iter()
        .find(|(starts, _)| starts.iter().any(|start| name.starts_with(start)))
        .map(|(_, family)| family)
}
