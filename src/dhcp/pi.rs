//! How a Raspberry Pi shows itself at DHCP, and what its boot ROM or bootloader wants to read.
//!
//! Every model says architecture 0 (BIOS) and the same vendor class as an x86 network card, and factories use address
//! blocks newer than any list: option 97 alone tells a Pi from the rest.

use crate::core::device::{BootIdentity, Family, Revision, Serial8};
use crate::dhcp::packet::{Message, code};

/// Reads option 97: `00`, then 16 bytes that are a boot ROM's constant, a serial four times, or
/// `magic[4] revision[4, LE] end of MAC[4] low word of serial[4, LE]`.
pub fn identify(message: &Message) -> Option<BootIdentity> {
    let (&0, words) = message.option(code::MACHINE_ID)?.split_first()? else {
        return None;
    };
    let (words, []) = words.as_chunks::<4>() else {
        return None;
    };
    let &[magic, revision, mac, serial] = words else {
        return None;
    };
    if [magic, revision, mac, serial] == [ROM_PATTERN; 4] {
        return Some(BootIdentity { family: Family::Pi3, revision: None, serial8: None });
    }
    let revision = Revision(u32::from_le_bytes(revision));
    let serial8 = Serial8(u32::from_le_bytes(serial));
    let family = match &magic {
        b"4iPR" => Family::Pi4,
        b"5iPR" | b"RPi5" => Family::Pi5,
        // Pi 5 said the same until its firmware of 2023-10-30; its revision has processor 4.
        b"RPi4" if (revision.0 >> 12) & 0xf == 4 => Family::Pi5,
        b"RPi4" => Family::Pi4,
        _ if is_serial_only(message, words) => {
            return Some(BootIdentity {
                family: family_without_magic(message),
                revision: None,
                serial8: Some(serial8),
            });
        }
        _ => return None,
    };
    Some(BootIdentity { family, revision: Some(revision), serial8: Some(serial8) })
}

/// The bootloader, and not the Linux that it boots later under the same MAC. It is known by option 97; in a REQUEST,
/// where firmware before 2022 left that out, by the list of options it asks for or by its vendor class.
pub fn is_bootloader(message: &Message) -> bool {
    if identify(message).is_some() {
        return true;
    }
    // What iPXE says of itself no Pi says.
    if [code::MACHINE_ID, code::USER_CLASS, code::IPXE].iter().any(|code| message.option(*code).is_some()) {
        return false;
    }
    message.option(code::VENDOR_CLASS) == Some(VENDOR_CLASS)
        || message.option(code::PARAMETERS).is_some_and(|list| PARAMETERS.contains(&list))
}

/// Option 43: discovery control 3, no prompt, and the menu of one entry that the bootloader looks for.
pub fn vendor_options(identity: Option<BootIdentity>) -> Vec<u8> {
    // The ROM of Pi 3B reads past the text by three bytes: they must be spaces. Its own constant names it.
    let is_rom = identity.is_some_and(|known| known.family == Family::Pi3 && known.serial8.is_none());
    let text: &[u8] = if is_rom { b"Raspberry Pi Boot   " } else { b"Raspberry Pi Boot" };
    let length = u8::try_from(text.len()).expect("the text is 20 bytes at most");
    let mut options = vec![6, 1, 3, 10, 4, 0];
    options.extend(b"PXE");
    options.extend([9, length + 3, 0, 0, length]);
    options.extend(text);
    options.push(255);
    options
}

/// What the bootloaders say in option 60.
pub const VENDOR_CLASS: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";

/// A PC's network card may send any UUID, so a word four times is believed only from a client that is otherwise
/// like a Pi.
fn is_serial_only(message: &Message, words: &[[u8; 4]]) -> bool {
    let word = words[0];
    words.iter().all(|other| *other == word)
        && ![[0; 4], [0xff; 4]].contains(&word)
        && message.option(code::VENDOR_CLASS).is_none_or(|class| class == VENDOR_CLASS)
        && message.option(code::PARAMETERS).is_none_or(|list| PARAMETERS.contains(&list))
}

/// Pi 4 before 2020-03 asks for the subnet mask first, Pi 3 for the vendor options.
fn family_without_magic(message: &Message) -> Family {
    match message.option(code::PARAMETERS) {
        Some([1, ..]) => Family::Pi4,
        _ => Family::Pi3,
    }
}

const ROM_PATTERN: [u8; 4] = [0x44; 4];

/// Option 55 as the three programs send it: boot ROM of Pi 3, `bootcode.bin`, bootloader of Pi 4 and 5.
const PARAMETERS: [&[u8]; 3] = [
    &[43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66],
    &[43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66, 1, 3],
    &[1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135],
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::device::Mac;

    fn with_machine_id(words: [&[u8; 4]; 4]) -> Message {
        let id = [0].into_iter().chain(words.into_iter().flatten().copied()).collect();
        Message::request(1, Mac::new([0xe4, 0x5f, 1, 2, 3, 4]), vec![(97, id)])
    }

    fn family(words: [&[u8; 4]; 4]) -> Option<Family> {
        identify(&with_machine_id(words)).map(|identity| identity.family)
    }

    #[test]
    fn a_cm4_tells_its_revision_and_serial() {
        let seen = identify(&with_machine_id([
            b"4iPR",
            &[0x40, 0x31, 0xc0, 0],
            &[1, 0x94, 0x24, 0xf8],
            &[0xef, 0xbe, 0xad, 0xde],
        ]));
        let told = BootIdentity {
            family: Family::Pi4,
            revision: Some(Revision(0x00c0_3140)),
            serial8: Some(Serial8(0xdead_beef)),
        };
        assert_eq!(seen, Some(told));
        assert_eq!(told.revision.unwrap().board(), Some("CM4"));
    }

    #[test]
    fn every_magic_names_its_family() {
        let [cm4, cm5, rest] = [&[0x40, 0x31, 0xc0, 0], &[0x80, 0x41, 0xd0, 0], &[1, 2, 3, 4]];
        assert_eq!(family([b"4iPR", cm4, rest, rest]), Some(Family::Pi4));
        assert_eq!(family([b"RPi4", cm4, rest, rest]), Some(Family::Pi4));
        assert_eq!(family([b"RPi4", cm5, rest, rest]), Some(Family::Pi5));
        assert_eq!(family([b"5iPR", cm5, rest, rest]), Some(Family::Pi5));
        assert_eq!(family([b"RPi5", cm5, rest, rest]), Some(Family::Pi5));
        assert_eq!(family([b"DDDD", b"DDDD", b"DDDD", b"DDDD"]), Some(Family::Pi3));
        assert_eq!(family([b"6iPR", cm5, rest, rest]), None);
    }

    #[test]
    fn a_serial_four_times_is_a_pi_only_if_the_rest_is_like_one() {
        let serial = &[0x16, 0x4c, 0x6c, 0xb6];
        let mut message = with_machine_id([serial; 4]);
        message.options.push((60, VENDOR_CLASS.to_vec()));
        message.options.push((55, PARAMETERS[1].to_vec()));
        let bootcode = BootIdentity { family: Family::Pi3, revision: None, serial8: Some(Serial8(0xb66c_4c16)) };
        assert_eq!(identify(&message), Some(bootcode));
        message.options.last_mut().unwrap().1 = PARAMETERS[2].to_vec();
        assert_eq!(identify(&message), Some(BootIdentity { family: Family::Pi4, ..bootcode }));
        message.options.last_mut().unwrap().1 = vec![1, 3, 6, 12];
        assert_eq!(identify(&message), None);
        assert_eq!(family([&[0; 4]; 4]), None);
        assert_eq!(family([&[0xff; 4]; 4]), None);
    }

    #[test]
    fn a_request_of_old_firmware_is_known_without_option_97() {
        let mut message = Message::request(1, Mac::new([2; 6]), vec![(53, vec![3]), (60, VENDOR_CLASS.to_vec())]);
        assert!(is_bootloader(&message));
        message.options.push((97, vec![0; 17]));
        assert!(!is_bootloader(&message), "a PC with its own option 97");
        message.options = vec![(53, vec![3]), (55, vec![1, 3, 6, 12, 15, 28, 42]), (60, b"udhcp 1.31.1".to_vec())];
        assert!(!is_bootloader(&message));
    }

    proptest! {
        #[test]
        fn any_option_97_is_looked_at_without_a_panic(id in proptest::collection::vec(any::<u8>(), 0..40)) {
            let message = Message::request(1, Mac::new([2; 6]), vec![(97, id)]);
            let _ = (identify(&message), is_bootloader(&message));
        }
    }
}
