//! The bootloader's text in a packet (RFC 791, RFC 768): IPv4 as a packet socket gives it, without its Ethernet frame.
//!
//! The checksum is not looked at: over a virtual link the kernel leaves it unfilled, and a wrong letter does no harm.

/// Where the text goes: `NETCONSOLE=6665@169.254.1.1/,6666@/` in the configuration of the EEPROM.
pub const PORT: u16 = 6666;

/// The payload, if it is a whole UDP datagram to the console's port.
pub fn text(packet: &[u8]) -> Option<&[u8]> {
    let (&[first, _, high, low], _) = packet.split_first_chunk::<4>()?;
    let header = usize::from(first & 0xf) * 4;
    // Ethernet pads short frames, so the packet may be longer than it says.
    let packet = packet.get(..usize::from(u16::from_be_bytes([high, low])))?;
    let (head, rest) = packet.split_at_checked(header)?;
    let (head, _) = head.split_first_chunk::<SHORTEST>()?;
    let is_fragment = u16::from_be_bytes([head[6], head[7]]) & FRAGMENT != 0;
    if first >> 4 != 4 || head[9] != UDP || is_fragment {
        return None;
    }
    let (udp, _) = rest.split_first_chunk::<UDP_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    (u16::from_be_bytes([udp[2], udp[3]]) == PORT).then(|| rest.get(UDP_HEADER..length))?
}

const SHORTEST: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
/// "More fragments" and the offset.
const FRAGMENT: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(options: &[u8], text: &[u8]) -> Vec<u8> {
        let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        let mut packet = vec![0x45 + u8::try_from(options.len() / 4).unwrap(), 0];
        packet.extend(length(28 + options.len() + text.len()));
        packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 169, 254, 1, 1, 255, 255, 255, 255]);
        packet.extend(options);
        packet.extend([0x1a, 0x09, 0x1a, 0x0a]);
        packet.extend(length(8 + text.len()));
        packet.extend([0, 0]);
        packet.extend(text);
        packet
    }

    #[test]
    fn the_text_lies_behind_headers_of_any_length_and_before_the_padding() {
        let mut plain = packet(&[], b"Net boot\n");
        assert_eq!(text(&plain), Some(&b"Net boot\n"[..]));
        plain.resize(46, 0);
        assert_eq!(text(&plain), Some(&b"Net boot\n"[..]));
        assert_eq!(text(&packet(&[1; 8], b"x")), Some(&b"x"[..]));
        assert_eq!(text(&packet(&[], b"")), Some(&b""[..]));
    }

    #[test]
    fn what_is_no_whole_datagram_to_the_port_is_no_text() {
        for (at, to, why) in [
            (0, 0x65, "version 6"),
            (0, 0x44, "a header of 16 bytes"),
            (0, 0x4f, "a header longer than the packet"),
            (6, 0x20, "more fragments"),
            (7, 1, "a later fragment"),
            (9, 6, "tcp"),
            (3, 200, "a total length beyond the packet"),
            (3, 27, "a total length that cuts the datagram"),
            (23, 0x0b, "another port"),
            (25, 7, "a datagram shorter than its header"),
            (25, 60, "a datagram longer than the packet"),
        ] {
            let mut odd = packet(&[], b"Net boot\n");
            odd[at] = to;
            assert_eq!(text(&odd), None, "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(head in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = text(&[&[head], &rest[..]].concat());
        }
    }
}
