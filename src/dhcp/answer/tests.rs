//! Replies against golden bytes and against another implementation.

use dhcproto::{Decodable, Decoder, v4};

use super::*;
use crate::dhcp::tests::{bytes, golden};

const STATION: Station = Station { server: Ipv4Addr::new(172, 20, 0, 1), prefix_len: 16 };
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 16);
const LEASE: DhcpVerdict = DhcpVerdict::Lease(Lease { address: ADDRESS, time: Duration::from_secs(3600) });

fn codes(message: &Message) -> Vec<u8> {
    message.options.iter().map(|(code, _)| *code).collect()
}

#[test]
fn a_cm4_is_offered_the_golden_bytes_by_unicast() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    let (offer, to) = answer(&discover, LEASE, STATION).unwrap();
    assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/pi4-offer.hex")));
    assert_eq!(to, To::Unicast { mac: discover.chaddr, address: ADDRESS });
}

#[test]
fn its_request_is_acknowledged_with_the_golden_bytes() {
    let request = golden(include_str!("../../../tests/vectors/dhcp/pi4-request.hex"));
    let (ack, _) = answer(&request, LEASE, STATION).unwrap();
    assert_eq!(ack.encode(), bytes(include_str!("../../../tests/vectors/dhcp/pi4-ack.hex")));
}

#[test]
fn another_implementation_reads_the_offer_the_same() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    let offer = answer(&discover, LEASE, STATION).unwrap().0.encode();
    let read = v4::Message::decode(&mut Decoder::new(&offer)).unwrap();
    assert_eq!((read.yiaddr(), read.siaddr(), read.xid()), (ADDRESS, STATION.server, discover.xid));
    let options = read.opts();
    assert_eq!(options.get(v4::OptionCode::Router), Some(&v4::DhcpOption::Router(vec![STATION.server])));
    assert_eq!(options.get(v4::OptionCode::AddressLeaseTime), Some(&v4::DhcpOption::AddressLeaseTime(3600)));
    assert_eq!(options.get(v4::OptionCode::MessageType), Some(&v4::DhcpOption::MessageType(v4::MessageType::Offer)));
}

#[test]
fn beside_another_server_a_cm4_gets_the_golden_proxy_offer_by_broadcast() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    let (offer, to) = answer(&discover, DhcpVerdict::Proxy, STATION).unwrap();
    assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/pi4-proxy-offer.hex")));
    assert_eq!((offer.encode().len(), to), (314, To::Broadcast));
    let request = golden(include_str!("../../../tests/vectors/dhcp/pi4-request.hex"));
    assert!(answer(&request, DhcpVerdict::Proxy, STATION).is_none());
    let linux = golden(include_str!("../../../tests/vectors/dhcp/udhcpc-discover.hex"));
    assert!(answer(&linux, DhcpVerdict::Proxy, STATION).is_none());
}

#[test]
fn the_rom_of_a_pi_3_gets_three_spaces() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/pi3-rom-discover.hex"));
    let (offer, _) = answer(&discover, LEASE, STATION).unwrap();
    let menu = offer.option(code::VENDOR_SPECIFIC).unwrap();
    assert_eq!(menu, b"\x06\x01\x03\x0a\x04\0PXE\x09\x17\0\0\x14Raspberry Pi Boot   \xff");
    let discover = golden(include_str!("../../../tests/vectors/dhcp/pi3-bootcode-discover.hex"));
    let (offer, _) = answer(&discover, LEASE, STATION).unwrap();
    assert!(offer.option(code::VENDOR_SPECIFIC).unwrap().ends_with(b"\x09\x14\0\0\x11Raspberry Pi Boot\xff"));
}

#[test]
fn linux_gets_a_plain_offer_with_its_id() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/udhcpc-discover.hex"));
    let (offer, to) = answer(&discover, LEASE, STATION).unwrap();
    assert_eq!(codes(&offer), [53, 54, 51, 58, 59, 1, 28, 3, 61]);
    assert_eq!(to, To::Unicast { mac: discover.chaddr, address: ADDRESS });
}

#[test]
fn the_broadcast_flag_is_obeyed_and_kept() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/uefi-http-discover.hex"));
    let (offer, to) = answer(&discover, LEASE, STATION).unwrap();
    assert_eq!((to, offer.flags), (To::Broadcast, BROADCAST));
}

#[test]
fn a_refusal_is_broadcast_and_names_no_address() {
    let request = golden(include_str!("../../../tests/vectors/dhcp/pi4-request.hex"));
    let (nak, to) = answer(&request, DhcpVerdict::Nak, STATION).unwrap();
    assert_eq!((codes(&nak), to), (vec![53, 54, 56], To::Broadcast));
    assert_eq!((nak.yiaddr, nak.siaddr), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED));
}

#[test]
fn a_relay_gets_the_reply_with_its_own_words_last() {
    let relay = Ipv4Addr::new(172, 20, 0, 2);
    let mut discover = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    discover.giaddr = relay;
    discover.options.insert(0, (code::RELAY_AGENT, vec![1, 1, 7]));
    let (offer, to) = answer(&discover, LEASE, STATION).unwrap();
    assert_eq!((offer.giaddr, to), (relay, To::Relay(relay)));
    assert_eq!(offer.options.last(), Some(&(code::RELAY_AGENT, vec![1, 1, 7])));
    let request = Message { giaddr: relay, ..golden(include_str!("../../../tests/vectors/dhcp/pi4-request.hex")) };
    let (nak, to) = answer(&request, DhcpVerdict::Nak, STATION).unwrap();
    assert_eq!((nak.flags & BROADCAST, to), (BROADCAST, To::Relay(relay)));
}

#[test]
fn who_has_an_address_is_answered_there() {
    let mut request = golden(include_str!("../../../tests/vectors/dhcp/udhcpc-discover.hex"));
    request.ciaddr = ADDRESS;
    request.options[0].1 = vec![Kind::Request as u8];
    let (ack, to) = answer(&request, LEASE, STATION).unwrap();
    assert_eq!((ack.ciaddr, to), (ADDRESS, To::Unicast { mac: request.chaddr, address: ADDRESS }));
    request.options[0].1 = vec![Kind::Inform as u8];
    let (ack, to) = answer(&request, DhcpVerdict::OptionsOnly, STATION).unwrap();
    assert_eq!(codes(&ack), [53, 54, 1, 28, 3, 61]);
    assert_eq!((ack.yiaddr, to), (Ipv4Addr::UNSPECIFIED, To::Unicast { mac: request.chaddr, address: ADDRESS }));
}

#[test]
fn silence_and_verdicts_that_do_not_fit_say_nothing() {
    let discover = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    for verdict in [DhcpVerdict::Silent, DhcpVerdict::Nak, DhcpVerdict::OptionsOnly] {
        assert_eq!(answer(&discover, verdict, STATION), None);
    }
}

#[test]
fn the_mask_follows_the_prefix() {
    let mask = |prefix_len| network(Station { prefix_len, ..STATION })[0].1.clone();
    assert_eq!((mask(0), mask(24), mask(32)), (vec![0; 4], vec![255, 255, 255, 0], vec![255; 4]));
}
