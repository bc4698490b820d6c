//! Where a cable is: option 82 (RFC 3046), which a switch or relay agent adds to a request.
//!
//! What stands in it is the switch maker's choice. Each known form has a decoder; the first that understands it wins,
//! and what none understands is written as hex, so that it still tells one socket from another.

use std::fmt::Write as _;

use crate::core::device::Mac;

/// The socket as one word for people and machines: `{switch}/{module}/{port}` with `@{vlan}`, or the switch's own text.
/// Printable ASCII without blanks, at most 128 characters.
pub fn place(option: &[u8]) -> Option<String> {
    let parts = sub_options(option);
    let part = |code| parts.iter().find(|(known, _)| *known == code).map(|(_, value)| *value);
    let circuit = part(CIRCUIT_ID).filter(|circuit| !circuit.is_empty())?;
    let remote = part(REMOTE_ID).and_then(switch);
    let port = DECODERS.iter().find_map(|decode| decode(circuit)).unwrap_or_else(|| hex(circuit));
    let mut place = match remote {
        Some(switch) => format!("{switch}/{port}"),
        None => port,
    };
    place.truncate(LONGEST);
    Some(place)
}

type Decoder = fn(&[u8]) -> Option<String>;

/// In the order of how exact their forms are.
const DECODERS: [Decoder; 4] = [tagged_port, bare_port, tagged_text, text];

/// D-Link, and many who followed: type 0, length 4, VLAN, module, port.
fn tagged_port(circuit: &[u8]) -> Option<String> {
    match *circuit {
        [0, 4, high, low, module, port] => Some(socket(u16::from_be_bytes([high, low]), module, port)),
        _ => None,
    }
}

/// `ORing`, Planet, Niveo: VLAN, module, port. Four letters are a text.
fn bare_port(circuit: &[u8]) -> Option<String> {
    match *circuit {
        [high, low, module, port] if text(circuit).is_none() => {
            Some(socket(u16::from_be_bytes([high, low]), module, port))
        }
        _ => None,
    }
}

/// A text in a type and a length, as TP-Link sends a name that was given to the port.
fn tagged_text(circuit: &[u8]) -> Option<String> {
    match circuit {
        [0 | 1, length, words @ ..] if usize::from(*length) == words.len() => text(words),
        _ => None,
    }
}

/// TR-101, as Edgecore: `10.0.0.2 eth 1/7:100`. Blanks become `_`, for the place is one word.
fn text(circuit: &[u8]) -> Option<String> {
    let is_text = circuit.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let words = str::from_utf8(circuit).ok().filter(|_| is_text)?.trim();
    (!words.is_empty()).then(|| words.replace(' ', "_"))
}

/// The MAC of the switch, bare or in a type and a length; or the name that it was given.
fn switch(remote: &[u8]) -> Option<String> {
    let mac = match remote {
        [0, 6, mac @ ..] => mac,
        mac => mac,
    };
    match <[u8; 6]>::try_from(mac) {
        Ok(mac) => Some(Mac::new(mac).to_string()),
        Err(_) => tagged_text(remote).or_else(|| text(remote)).or_else(|| (!remote.is_empty()).then(|| hex(remote))),
    }
}

fn socket(vlan: u16, module: u8, port: u8) -> String {
    format!("{module}/{port}@{vlan}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes everything");
        out
    })
}

/// Reads the list as far as it goes.
fn sub_options(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut parts = Vec::new();
    while let [code, length, rest @ ..] = bytes {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        parts.push((*code, value));
        bytes = rest;
    }
    parts
}

const CIRCUIT_ID: u8 = 1;
const REMOTE_ID: u8 = 2;
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(circuit: &[u8], remote: &[u8]) -> Option<String> {
        let length = |part: &[u8]| u8::try_from(part.len()).unwrap();
        place(&[&[1, length(circuit)], circuit, &[2, length(remote)], remote].concat())
    }

    const SWITCH: [u8; 6] = [0x00, 0x1c, 0xf0, 0x11, 0x22, 0x33];

    #[test]
    fn each_known_form_names_its_socket() {
        let d_link = crate::dhcp::tests::bytes(include_str!("../../tests/vectors/dhcp/d-link-option82.hex"));
        assert_eq!(place(&d_link).as_deref(), Some("001cf0112233/0/5@1"));
        let tagged = [&[0, 6], &SWITCH[..]].concat();
        for (circuit, remote, expected) in [
            (&[0, 4, 0, 100, 1, 24][..], &tagged[..], "001cf0112233/1/24@100"),
            (&[0, 1, 0, 7], &SWITCH, "001cf0112233/0/7@1"),
            (b"\0\x07gi1/0/3", &SWITCH, "001cf0112233/gi1/0/3"),
            (b"10.0.0.2 eth 1/7:100", &SWITCH, "001cf0112233/10.0.0.2_eth_1/7:100"),
            (b"port", b"hall-03", "hall-03/port"),
            (&[9, 9, 0xff], &[0xee], "ee/0909ff"),
        ] {
            assert_eq!(of(circuit, remote).as_deref(), Some(expected));
        }
        assert_eq!(place(&[1, 4, 0, 1, 0, 7]).as_deref(), Some("0/7@1"), "no remote id");
    }

    #[test]
    fn an_option_without_a_circuit_names_nothing() {
        for option in [&[][..], &[1], &[1, 0], &[1, 9, 1], &[2, 1, 7], &[5, 4, 1, 2, 3, 4]] {
            assert_eq!(place(option), None, "{option:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_switch_sends_becomes_one_printable_word(option in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(place) = place(&option) {
                prop_assert!(place.bytes().all(|byte| byte.is_ascii_graphic()) && place.len() <= LONGEST);
            }
        }
    }
}
