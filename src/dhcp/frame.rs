//! IPv4 and UDP headers around a reply (RFC 791, RFC 768).
//!
//! Replies go out by a raw socket with checksums of our own: bootloaders drop packets whose checksum is wrong, and over
//! a virtual link the kernel leaves it unfilled.

use std::net::{Ipv4Addr, SocketAddrV4};

/// One IP packet; nothing if the payload is too long for one.
pub fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_len = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let total_len = u16::try_from(IP_HEADER).ok()?.checked_add(udp_len)?;

    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let pseudo = [&addresses(from, to)[..], &[0, UDP], &udp_len.to_be_bytes()].concat();
    // A computed zero is sent as ones, because zero means "not computed".
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut ip = vec![0x45, 0];
    ip.extend(total_len.to_be_bytes());
    ip.extend([0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    ip.extend(addresses(from, to));
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(udp);
    Some(ip)
}

fn addresses(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 8] {
    let octets = |address: &Ipv4Addr| address.octets();
    let ([a, b, c, d], [e, f, g, h]) = (octets(from.ip()), octets(to.ip()));
    [a, b, c, d, e, f, g, h]
}

/// RFC 1071 over parts of even length, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("two folds leave 16 bits")
}

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_headers_are_those_of_a_known_packet() {
        let from = "172.20.0.1:67".parse().unwrap();
        let to = "172.20.0.16:68".parse().unwrap();
        let sent = packet(from, to, b"abc").unwrap();
        let ip = [0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0xe2, 0x94, 172, 20, 0, 1, 172, 20, 0, 16];
        assert_eq!(sent[..20], ip);
        assert_eq!(sent[20..], [0, 67, 0, 68, 0, 11, 0xe2, 0xb4, b'a', b'b', b'c']);
    }

    #[test]
    fn what_does_not_fit_one_packet_is_not_sent() {
        let any = "0.0.0.0:0".parse().unwrap();
        assert!(packet(any, any, &vec![0; 65_507]).is_some());
        assert!(packet(any, any, &vec![0; 65_508]).is_none());
    }

    proptest! {
        #[test]
        fn both_checksums_hold(payload in proptest::collection::vec(any::<u8>(), 0..600), a: u32, b: u32) {
            let (from, to) = (SocketAddrV4::new(a.into(), 67), SocketAddrV4::new(b.into(), 68));
            let sent = packet(from, to, &payload).unwrap();
            let udp_len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
            prop_assert_eq!(checksum(&[&sent[..20]]), 0);
            prop_assert_eq!(checksum(&[&sent[12..20], &[0, 17], &udp_len, &sent[20..]]), 0);
        }
    }
}
