//! Replies against golden bytes and against another implementation.

use dhcproto::{Decodable, Decoder, v4};

use super::*;
use crate::dhcp::tests::{bytes, golden};

static NO_FILES: BootFiles = BootFiles::none();
const STATION: Station<'static> = Station { server: Ipv4Addr::new(172, 20, 0, 1), prefix_len: 16, boot: &NO_FILES };
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
    assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/pi3-rom-offer.hex")));
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

/// A station that has something to load for everyone.
fn with_files(deed: impl FnOnce(Station<'_>)) {
    let files = [
        (Client::Ipxe, "http://172.20.0.1:8080/boot.ipxe"),
        (Client::Bios, "undionly.kpxe"),
        (Client::EfiX64, "ipxe.efi"),
        (Client::EfiArm64, "bootaa64.efi"),
        (Client::HttpArm64, "http://172.20.0.1:8080/bootaa64.efi"),
        (Client::UBoot, "boot.scr.uimg"),
    ];
    let boot = files.into_iter().map(|(client, file)| (client, file.to_owned())).collect();
    deed(Station { boot: &boot, ..STATION });
}

#[test]
fn uefi_pxe_is_told_its_file_in_the_golden_bytes() {
    with_files(|station| {
        let discover = golden(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-discover.hex"));
        let (offer, to) = answer(&discover, LEASE, station).unwrap();
        assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-offer.hex")));
        assert_eq!(to, To::Broadcast, "EDK2 sets the flag");
        let request = golden(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-request.hex"));
        let (ack, _) = answer(&request, LEASE, station).unwrap();
        assert_eq!(ack.encode(), bytes(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-ack.hex")));
        let (offer, to) = answer(&discover, DhcpVerdict::Proxy, station).unwrap();
        assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-proxy-offer.hex")));
        assert_eq!(to, To::Broadcast);
        let asked = Message { ciaddr: ADDRESS, ..request };
        let (ack, _) = answer(&asked, DhcpVerdict::BootServer, station).unwrap();
        assert_eq!(ack.encode(), bytes(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-boot-ack.hex")));
    });
}

#[test]
fn uefi_http_boot_is_told_its_url_in_the_golden_bytes() {
    with_files(|station| {
        let discover = golden(include_str!("../../../tests/vectors/dhcp/uefi-http-arm64-discover.hex"));
        let (offer, to) = answer(&discover, LEASE, station).unwrap();
        assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/uefi-http-arm64-offer.hex")));
        assert_eq!((to, offer.file.len()), (To::Broadcast, 0));
        // Architecture 16 has no file here.
        let discover = golden(include_str!("../../../tests/vectors/dhcp/uefi-http-discover.hex"));
        let (offer, _) = answer(&discover, LEASE, station).unwrap();
        assert_eq!(codes(&offer), [53, 54, 51, 58, 59, 1, 28, 3], "an address only");
    });
}

#[test]
fn a_pc_is_never_shown_the_menu_of_a_pi() {
    with_files(|station| {
        let discover = golden(include_str!("../../../tests/vectors/dhcp/bios-pxe-discover.hex"));
        let (offer, _) = answer(&discover, LEASE, station).unwrap();
        assert_eq!((offer.file.as_slice(), offer.option(43)), (&b"undionly.kpxe"[..], Some(&[6, 1, 8, 255][..])));
        let (offer, _) = answer(&discover, LEASE, STATION).unwrap();
        assert_eq!((offer.file.as_slice(), offer.option(43), offer.option(60)), (&b""[..], None, None));
        assert!(answer(&discover, DhcpVerdict::Proxy, STATION).is_none());
    });
}

#[test]
fn ipxe_is_not_told_to_load_itself_again() {
    with_files(|station| {
        let discover = golden(include_str!("../../../tests/vectors/dhcp/ipxe-discover.hex"));
        let (offer, _) = answer(&discover, LEASE, station).unwrap();
        assert_eq!(offer.option(code::BOOT_FILE), Some(&b"http://172.20.0.1:8080/boot.ipxe\0"[..]));
        assert_eq!((offer.option(code::IPXE), offer.file.len()), (Some(&[176, 1, 1][..]), 0));
    });
}

#[test]
fn the_item_of_another_server_s_menu_is_repeated_on_port_4011() {
    with_files(|station| {
        let mut request = golden(include_str!("../../../tests/vectors/dhcp/ipxe-boot-server-request.hex"));
        let mut repeated = |menu: &[u8]| {
            request.options.iter_mut().find(|(code, _)| *code == code::VENDOR_SPECIFIC).unwrap().1 = menu.to_vec();
            let (ack, _) = answer(&request, DhcpVerdict::BootServer, station).unwrap();
            ack.option(code::VENDOR_SPECIFIC).unwrap().to_vec()
        };
        assert_eq!(repeated(&[71, 4, 0x80, 0, 0, 0, 255]), [6, 1, 8, 71, 4, 0x80, 0, 0, 0, 255]);
        assert_eq!(repeated(&[10, 1, 0, 71, 4, 0, 1, 0, 2]), [6, 1, 8, 71, 4, 0, 1, 0, 2, 255]);
        for none in [&[][..], &[255], &[71], &[71, 4, 0, 0, 0], &[71, 2, 0, 0, 255], &[9, 200, 71, 4, 0, 0, 0, 0]] {
            assert_eq!(repeated(none), [6, 1, 8, 255], "{none:?}");
        }
    });
}

#[test]
fn u_boot_is_told_its_script_and_then_its_efi_program() {
    with_files(|station| {
        for (text, file, class) in [
            (include_str!("../../../tests/vectors/dhcp/u-boot-discover.hex"), &b"boot.scr.uimg"[..], None),
            (
                include_str!("../../../tests/vectors/dhcp/u-boot-pxe-discover.hex"),
                b"bootaa64.efi",
                Some(&b"PXEClient"[..]),
            ),
        ] {
            let (offer, _) = answer(&golden(text), LEASE, station).unwrap();
            assert_eq!((offer.file.as_slice(), offer.option(code::VENDOR_CLASS)), (file, class));
            assert!(offer.encode().len() + 28 <= 576);
        }
    });
}

#[test]
fn a_pi_gets_the_same_bytes_whatever_others_load() {
    with_files(|station| {
        let discover = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
        let (offer, _) = answer(&discover, LEASE, station).unwrap();
        assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/pi4-offer.hex")));
        assert!(answer(&discover, DhcpVerdict::BootServer, station).is_none());
        let linux = golden(include_str!("../../../tests/vectors/dhcp/udhcpc-discover.hex"));
        assert!(answer(&linux, DhcpVerdict::Proxy, station).is_none());
    });
}

#[test]
fn a_reply_is_no_longer_than_its_client_can_take() {
    let url = format!("http://h/{}", "x".repeat(246));
    let boot = [(Client::HttpArm64, url.clone()), (Client::EfiArm64, "y".repeat(127))].into_iter().collect();
    let station = Station { boot: &boot, ..STATION };
    let mut discover = golden(include_str!("../../../tests/vectors/dhcp/uefi-http-arm64-discover.hex"));
    let size = |ask: &Message| answer(ask, LEASE, station).unwrap().0;
    assert_eq!(codes(&size(&discover)), [53, 54, 51, 58, 59, 1, 28, 3, 60, 97, 67], "it takes 1472 bytes");
    discover.options.push((code::CLIENT_ID, vec![7; 200]));
    discover.options.push((code::RELAY_AGENT, vec![9; 250]));
    discover.options.retain(|(code, _)| *code != code::MAXIMUM_SIZE);
    let usual = size(&discover);
    assert_eq!(codes(&usual), [53, 54, 51, 1, 60, 67, 82], "what a client without option 57 takes");
    assert_eq!(usual.option(code::BOOT_FILE), Some(url.as_bytes()));
    assert!(usual.encode().len() - 252 <= 548);

    let mut discover = golden(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-discover.hex"));
    discover.options.iter_mut().find(|(code, _)| *code == code::MAXIMUM_SIZE).unwrap().1 = vec![0, 0];
    let least = size(&discover);
    assert_eq!((codes(&least), least.file.len()), (vec![53, 54, 51, 1, 60, 97, 43], 127));
    assert_eq!(least.encode().len(), 300, "never less than BOOTP");
    let pi = golden(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    assert_eq!(size(&pi).encode().len(), 362);
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
