//! The personality of a CM4's bootloader: what it says at DHCP, which files it asks for, and in which order.
//!
//! The order is the one that the predecessor's README shows of a real CM4, and after it `netboot.md` §2.4.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::device::Serial8;
use crate::dhcp::packet::{Message, code};
use crate::dhcp::pi::VENDOR_CLASS;
use crate::simulator::board::Board;
use crate::simulator::download::{Fetched, Lost, Patience, Wish, fetch};
use crate::simulator::lease::Personality;

/// When it sends again, and when it gives up.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// `DHCP_REQ_TIMEOUT`
    pub request: Duration,
    /// `DHCP_TIMEOUT`
    pub dhcp: Duration,
}

impl Default for Timing {
    /// As the bootloader ships.
    fn default() -> Self {
        Self { request: Duration::from_secs(4), dhcp: Duration::from_secs(45) }
    }
}

/// What it does at DHCP.
pub fn personality(board: Board, timing: Timing) -> Personality {
    let options = |kind: u8| {
        vec![
            (code::KIND, vec![kind]),
            (code::PARAMETERS, vec![1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135]),
            (code::ARCHITECTURE, vec![0, 0]),
            (code::INTERFACE, vec![1, 2, 1]),
            (code::MACHINE_ID, machine_id(board)),
            (code::VENDOR_CLASS, VENDOR_CLASS.to_vec()),
        ]
    };
    Personality {
        discover: options(1),
        request: options(3),
        takes: is_boot_offer,
        again: timing.request,
        patience: timing.dhcp,
    }
}

/// Option 97: `00`, "4iPR", the revision, the end of the MAC, the low word of the serial.
fn machine_id(board: Board) -> Vec<u8> {
    let mut id = vec![0];
    id.extend(b"4iPR");
    id.extend(board.revision.0.to_le_bytes());
    id.extend(&board.mac.bytes()[2..]);
    id.extend(board.serial.low().0.to_le_bytes());
    id
}

/// It looks for its own name in the menu of option 43 and does not take other offers.
fn is_boot_offer(offer: &Message) -> bool {
    let name = b"Raspberry Pi Boot";
    offer.option(code::VENDOR_SPECIFIC).is_some_and(|menu| menu.windows(name.len()).any(|window| window == name))
}

/// What was had over TFTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booted {
    pub files: u32,
    pub missing: u32,
    pub bytes: u64,
    /// What took too long and was taken for absent.
    pub cut: Vec<String>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Downloads everything that a CM4 asks for.
pub fn download(server: Ipv4Addr, serial8: Serial8, patience: Patience) -> Result<Booted, Unbootable> {
    walk(serial8, |file, wish| fetch(server, file, wish, patience))
}

/// The walk through the list, whatever `get` does.
fn walk(serial8: Serial8, mut get: impl FnMut(&str, Wish) -> Result<Fetched, Lost>) -> Result<Booted, Unbootable> {
    let mut booted = Booted::default();
    let mut prefix = String::new();
    for probe in ["start4.elf", "start.elf"] {
        let file = format!("{serial8}/{probe}");
        if get(&file, Wish::Probe)? == Fetched::Seen {
            prefix = format!("{serial8}/");
            break;
        }
        booted.missing += 1;
    }
    let mut kernel = false;
    for file in BEFORE_KERNEL.iter().chain(&KERNELS).chain(&AFTER_KERNEL) {
        let is_kernel = KERNELS.contains(file);
        if is_kernel && kernel {
            continue;
        }
        match get(&format!("{prefix}{file}"), Wish::Whole)? {
            Fetched::Whole { bytes, head } => {
                booted.files += 1;
                booted.bytes += bytes;
                kernel |= is_kernel;
                if *file == "cmdline.txt" {
                    booted.cmdline = String::from_utf8_lossy(&head).trim().to_owned();
                }
            }
            _ if NEEDED.contains(file) => {
                return Err(Unbootable::Missing(format!("{prefix}{file}")));
            }
            _ => booted.missing += 1,
        }
    }
    if kernel { Ok(booted) } else { Err(Unbootable::NoKernel) }
}

/// `config.txt` comes again and again: the bootloader reads it, and then `start4.elf` does.
const BEFORE_KERNEL: [&str; 16] = [
    "config.txt",
    "pieeprom.sig",
    "recover4.elf",
    "recovery.elf",
    "start4.elf",
    "fixup4.dat",
    "dt-blob.bin",
    "config.txt",
    "bootcfg.txt",
    "scriptexecute.img",
    "bcm2711-rpi-cm4.dtb",
    "overlays/overlay_map.dtb",
    "config.txt",
    "overlays/dwc2.dtbo",
    "overlays/spi-gpio40-45.dtbo",
    "cmdline.txt",
];
/// The first that is there is taken.
const KERNELS: [&str; 10] = [
    "recovery8.img",
    "recovery8-32.img",
    "recovery7l.img",
    "recovery7.img",
    "recovery.img",
    "kernel8.img",
    "kernel8-32.img",
    "kernel7l.img",
    "kernel7.img",
    "kernel.img",
];
const AFTER_KERNEL: [&str; 1] = ["armstub8-32-gic.bin"];
/// Without these nothing boots.
const NEEDED: [&str; 4] = ["config.txt", "start4.elf", "scriptexecute.img", "cmdline.txt"];

/// The boot files do not make a boot.
#[derive(Debug, thiserror::Error)]
pub enum Unbootable {
    #[error("the station has no {0}")]
    Missing(String),
    #[error("the station has no kernel")]
    NoKernel,
    #[error(transparent)]
    Lost(#[from] Lost),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::Revision;
    use crate::simulator::board::Model;

    fn board() -> Board {
        Board {
            model: Model::Cm4,
            mac: "e45f01112233".parse().unwrap(),
            serial: "10000000deadbeef".parse().unwrap(),
            revision: Revision(0xc0_4131),
        }
    }

    #[test]
    fn the_discover_is_the_golden_one() {
        let who = personality(Board { revision: Revision(0xc0_4131), ..board() }, Timing::default());
        let sent = Message::request(0xd383_a6ac, board().mac, who.discover).encode();
        let golden = "350101370e01032b3c424380818283848586875d0200005e03010201611100346950523141c00001112233efbeadde\
                      3c20505845436c69656e743a417263683a30303030303a554e44493a303032303031ff";
        let hex: String = sent[240..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((sent.len(), hex.as_str()), (322, golden));
        assert_eq!(sent[..12], [1, 1, 6, 0, 0xd3, 0x83, 0xa6, 0xac, 0, 0, 0, 0]);
    }

    fn visited(has: &[&str]) -> (Vec<String>, Result<Booted, Unbootable>) {
        let mut asked = Vec::new();
        let walked = walk(Serial8(0xbe91_0eb2), |file, wish| {
            asked.push(file.to_owned());
            let bare = file.strip_prefix("be910eb2/").unwrap_or(file);
            Ok(match wish {
                _ if !has.contains(&bare) && !has.contains(&file) => Fetched::Missing,
                Wish::Probe => Fetched::Seen,
                Wish::Whole => Fetched::Whole { bytes: 10, head: b" script=http://x/ \n".to_vec() },
            })
        });
        (asked, walked)
    }

    const SET: [&str; 6] = ["config.txt", "start4.elf", "fixup4.dat", "scriptexecute.img", "cmdline.txt", "kernel.img"];

    #[test]
    fn a_cm4_asks_below_its_serial_once_that_looks_bootable() {
        let (asked, booted) = visited(&SET);
        let booted = booted.unwrap();
        assert_eq!(asked[0], "be910eb2/start4.elf");
        assert!(asked.iter().all(|file| file.starts_with("be910eb2/")), "{asked:?}");
        assert_eq!((booted.files, booted.cmdline.as_str()), (8, "script=http://x/"));
        assert_eq!(asked.last().map(String::as_str), Some("be910eb2/armstub8-32-gic.bin"));
    }

    #[test]
    fn without_a_folder_of_its_own_it_asks_for_bare_names() {
        let mut has: Vec<&str> = SET.to_vec();
        has.retain(|file| *file != "start4.elf");
        let (asked, booted) = visited(&has);
        assert_eq!(asked[..3], ["be910eb2/start4.elf", "be910eb2/start.elf", "config.txt"]);
        assert!(matches!(booted, Err(Unbootable::Missing(file)) if file == "start4.elf"));
    }

    #[test]
    fn a_set_without_a_kernel_does_not_boot() {
        assert!(matches!(visited(&SET[..5]).1, Err(Unbootable::NoKernel)));
    }

    #[test]
    fn offers_without_its_name_are_not_taken() {
        let offer = |menu: &[u8]| Message::request(1, board().mac, vec![(43, menu.to_vec())]);
        assert!(is_boot_offer(&offer(b"\x06\x01\x03\x09\x14\0\0\x11Raspberry Pi Boot\xff")));
        assert!(!is_boot_offer(&offer(b"\x06\x01\x03\xff")));
    }
}
