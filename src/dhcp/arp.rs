//! ARP over Ethernet (RFC 826), as far as a DHCP server needs it: to ask whether an address is free (RFC 5227), to say
//! whose an address is, and to hear who says that of another.

use std::net::Ipv4Addr;

use crate::core::device::Mac;

/// Asks who has an address, without saying that we want it.
pub fn probe(me: Mac, address: Ipv4Addr) -> Vec<u8> {
    packet(REQUEST, me, Ipv4Addr::UNSPECIFIED, address)
}

/// Says to everyone that an address is ours.
pub fn announcement(me: Mac, address: Ipv4Addr) -> Vec<u8> {
    packet(REQUEST, me, address, address)
}

/// Who says that it has which address: every ARP packet but a probe says so of its sender.
pub fn claim(packet: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    if head[..6] != ETHERNET_IPV4 || ![REQUEST, REPLY].contains(&[head[6], head[7]]) {
        return None;
    }
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    let mac = Mac::new(*mac);
    (mac.is_unicast() && !address.is_unspecified()).then_some((address, mac))
}

fn packet(operation: [u8; 2], sender: Mac, from: Ipv4Addr, about: Ipv4Addr) -> Vec<u8> {
    let mut out = ETHERNET_IPV4.to_vec();
    out.extend(operation);
    out.extend(sender.bytes());
    out.extend(from.octets());
    out.extend([0; 6]);
    out.extend(about.octets());
    out
}

/// Hardware Ethernet, protocol IPv4, addresses of 6 and 4 bytes.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn a_probe_claims_nothing_and_an_announcement_does() {
        assert_eq!(probe(ME, ADDRESS).len(), 28);
        assert_eq!(claim(&probe(ME, ADDRESS)), None);
        assert_eq!(claim(&announcement(ME, ADDRESS)), Some((ADDRESS, ME)));
    }

    #[test]
    fn the_answer_to_a_probe_names_the_holder() {
        let mut answer = announcement(ME, ADDRESS);
        answer[7] = 2;
        // Ethernet pads short frames.
        answer.resize(46, 0);
        assert_eq!(claim(&answer), Some((ADDRESS, ME)));
        answer[8] = 0xff;
        assert_eq!(claim(&answer), None, "a multicast sender");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = claim(&bytes);
        }
    }
}
