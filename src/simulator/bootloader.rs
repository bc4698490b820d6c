//! What the firmware of each board says at DHCP, and which program of it downloads what.

use std::time::Duration;

use crate::core::device::Serial8;
use crate::dhcp::packet::{Message, code};
use crate::dhcp::pi::VENDOR_CLASS;
use crate::simulator::board::{Board, Firmware, Model};
use crate::simulator::download::Dialect;
use crate::simulator::lease::{Believes, Ends, Personality};
use crate::simulator::walk::{Booted, Get, Unbootable, Walk};
use crate::simulator::{pi3, pi4, pi5};

/// When the bootloader of a Pi 4 or 5 sends again, and when it gives up.
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

/// A program that asks for an address and then for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Pi 3B.
    Rom,
    /// Pi 3B, after its boot ROM.
    Bootcode,
    /// In the EEPROM of Pi 4 and 5.
    Bootloader,
    /// The same before 2020-03.
    OldBootloader,
}

impl Program {
    /// The one that boots Linux on this board.
    pub const fn last(model: Model, firmware: Firmware) -> Self {
        match (model, firmware) {
            (Model::Pi3, _) => Self::Bootcode,
            (Model::Pi4 | Model::Cm4, Firmware::Old) => Self::OldBootloader,
            (Model::Pi4 | Model::Cm4 | Model::Pi5 | Model::Cm5, _) => Self::Bootloader,
        }
    }

    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Rom => Dialect::ROM,
            Self::Bootcode => Dialect::BOOTCODE,
            Self::Bootloader => Dialect::BOOTLOADER,
            Self::OldBootloader => Dialect::OLD_BOOTLOADER,
        }
    }

    /// The first port that it downloads to; the next file takes the next one.
    pub const fn port(self) -> u16 {
        match self {
            Self::Rom => 49152,
            Self::Bootcode => 49153,
            Self::Bootloader | Self::OldBootloader => 40084,
        }
    }

    /// What it does at DHCP.
    pub fn personality(self, board: Board, timing: Timing) -> Personality {
        match self {
            Self::Rom | Self::Bootcode => self.of_pi3(board),
            Self::Bootloader | Self::OldBootloader => self.of_pi4(board, timing),
        }
    }

    fn of_pi3(self, board: Board) -> Personality {
        let rom = vec![43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66];
        let (parameters, id, takes): (_, _, fn(&Message) -> bool) = match self {
            Self::Rom => (rom, [0x44; 16].to_vec(), is_rom_offer),
            _ => ([rom, vec![1, 3]].concat(), serial_four_times(board.serial.low()), is_boot_offer),
        };
        Personality {
            xid: Some(0x26f3_0339),
            discover: options(1, parameters, Some(id), true),
            request: Vec::new(),
            takes,
            believes: Believes::Server,
            ends: Ends::Offer,
            // Five times; then it sleeps until the power is cycled.
            again: Duration::from_secs(5),
            patience: Duration::from_secs(25),
        }
    }

    fn of_pi4(self, board: Board, timing: Timing) -> Personality {
        let parameters = vec![1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135];
        let is_old = self == Self::OldBootloader;
        let id = if is_old { serial_four_times(board.serial.low()) } else { machine_id(board) };
        Personality {
            xid: None,
            discover: options(1, parameters.clone(), Some(id.clone()), true),
            request: options(3, parameters, (!is_old).then_some(id), !is_old),
            takes: is_boot_offer,
            believes: Believes::NextServer,
            ends: Ends::Ack,
            again: timing.request,
            patience: timing.dhcp,
        }
    }
}

/// Downloads everything that the last program of a board asks for.
pub fn download<'a>(board: Board, get: &'a mut Get<'a>) -> Result<Booted, Unbootable> {
    let mut walk = Walk::begin(board, get);
    match board.model {
        Model::Pi3 => pi3::walk(&mut walk),
        Model::Pi4 | Model::Cm4 => pi4::walk(&mut walk),
        Model::Pi5 | Model::Cm5 => pi5::walk(&mut walk),
    }?;
    Ok(walk.booted)
}

fn options(kind: u8, parameters: Vec<u8>, machine_id: Option<Vec<u8>>, class: bool) -> Vec<(u8, Vec<u8>)> {
    let mut options = vec![
        (code::KIND, vec![kind]),
        (code::PARAMETERS, parameters),
        (code::ARCHITECTURE, vec![0, 0]),
        (code::INTERFACE, vec![1, 2, 1]),
    ];
    options.extend(machine_id.map(|id| (code::MACHINE_ID, if id.len() == 16 { [vec![0], id].concat() } else { id })));
    if class {
        options.push((code::VENDOR_CLASS, VENDOR_CLASS.to_vec()));
    }
    options
}

fn serial_four_times(serial8: Serial8) -> Vec<u8> {
    serial8.0.to_le_bytes().repeat(4)
}

/// Option 97: `00`, the magic, the revision, the end of the MAC, the low word of the serial.
fn machine_id(board: Board) -> Vec<u8> {
    let mut id = vec![0];
    id.extend(match board.model {
        Model::Pi5 | Model::Cm5 => b"5iPR",
        Model::Pi3 | Model::Pi4 | Model::Cm4 => b"4iPR",
    });
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

/// The ROM of a Pi 3B compares three bytes too many: they must be spaces that belong to the text.
fn is_rom_offer(offer: &Message) -> bool {
    let entry = b"\x09\x17\0\0\x14Raspberry Pi Boot   ";
    offer.option(code::VENDOR_SPECIFIC).is_some_and(|menu| menu.windows(entry.len()).any(|window| window == entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::Revision;
    use crate::dhcp::pi::vendor_options;
    use crate::simulator::lease::{Asking, Wake};

    fn board(model: Model, mac: &str, serial: &str) -> Board {
        Board { model, mac: mac.parse().unwrap(), serial: serial.parse().unwrap(), revision: model.revision() }
    }

    fn cm4() -> Board {
        board(Model::Cm4, "e45f01112233", "10000000deadbeef")
    }

    /// A packet of `tests/vectors/dhcp`: hex with comment lines.
    fn vector(text: &str) -> Vec<u8> {
        let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        let digits: Vec<char> = digits.chars().filter(|c| !c.is_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
    }

    fn discover(program: Program, board: Board, xid: u32) -> Vec<u8> {
        let who = program.personality(board, Timing::default());
        match Asking::begin(&who, board.mac, xid, Duration::ZERO).wake(Duration::ZERO) {
            Wake::Send(message) => message.encode(),
            other => panic!("{other:?}"),
        }
    }

    macro_rules! golden {
        ($name:literal) => {
            vector(include_str!(concat!("../../tests/vectors/dhcp/", $name, ".hex")))
        };
    }

    #[test]
    fn every_discover_is_the_golden_one() {
        let pi3 = |mac| board(Model::Pi3, mac, "00000000b66c4c16");
        let rom = discover(Program::Rom, pi3("b827eb112233"), 1);
        assert_eq!((rom.len(), rom), (320, golden!("pi3-rom-discover")));
        let bootcode = discover(Program::Bootcode, pi3("b827eb6c4c16"), 1);
        assert_eq!((bootcode.len(), bootcode), (322, golden!("pi3-bootcode-discover")));
        let bootloader = discover(Program::Bootloader, cm4(), 0xd383_a6ac);
        assert_eq!((bootloader.len(), bootloader), (322, golden!("pi4-discover")));
        let cm5 = Board { revision: Revision(0xd0_4180), ..board(Model::Cm5, "2ccf67445566", "f00dcafe12345678") };
        assert_eq!(discover(Program::Bootloader, cm5, 0x00c0_ffee), golden!("pi5-discover"));
    }

    fn request(program: Program, board: Board) -> Vec<u8> {
        let who = program.personality(board, Timing::default());
        let mut asking = Asking::begin(&who, board.mac, 0xd383_a6ac, Duration::ZERO);
        let offer = Message::parse(&golden!("pi4-offer")).unwrap();
        assert_eq!(asking.heard(&offer, Duration::ZERO), None);
        match asking.wake(Duration::ZERO) {
            Wake::Send(message) => message.encode(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_request_is_the_golden_one_and_shorter_in_old_firmware() {
        assert_eq!(request(Program::Bootloader, cm4()), golden!("pi4-request"));
        let old = Message::parse(&request(Program::OldBootloader, cm4())).unwrap();
        assert_eq!((old.option(97), old.option(60)), (None, None));
        let asked = Message::parse(&discover(Program::OldBootloader, cm4(), 1)).unwrap();
        assert_eq!(asked.option(97).unwrap()[1..], [0xef, 0xbe, 0xad, 0xde].repeat(4));
        assert!(asked.option(60).is_some());
    }

    fn takes(program: Program, menu: &[u8]) -> bool {
        let who = program.personality(cm4(), Timing::default());
        (who.takes)(&Message::request(1, cm4().mac, vec![(43, menu.to_vec())]))
    }

    #[test]
    fn offers_without_its_name_are_not_taken() {
        let plain = b"\x06\x01\x03\x09\x14\0\0\x11Raspberry Pi Boot\xff";
        let spaces = b"\x06\x01\x03\x09\x17\0\0\x14Raspberry Pi Boot   \xff";
        let short = b"\x06\x01\x03\x09\x17\0\0\x11Raspberry Pi Boot   \xff";
        for program in [Program::Bootcode, Program::Bootloader, Program::OldBootloader] {
            assert!(takes(program, plain) && takes(program, spaces), "{program:?}");
            assert!(!takes(program, b"\x06\x01\x03\xff"), "{program:?}");
        }
        assert!(takes(Program::Rom, spaces));
        for wrong in [&plain[..], short, b"\x06\x01\x03\xff"] {
            assert!(!takes(Program::Rom, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn each_takes_what_this_station_says() {
        for program in [Program::Rom, Program::Bootcode, Program::Bootloader, Program::OldBootloader] {
            let asked = Message::parse(&discover(program, cm4(), 1)).unwrap();
            assert!(takes(program, &vendor_options(crate::dhcp::pi::identify(&asked))), "{program:?}");
        }
    }
}
