//! What a DHCP message means to the station: an observation for the ledger, or nothing.

use std::net::Ipv4Addr;

use crate::core::observation::{DhcpAsk, DhcpKind, Observation};
use crate::dhcp::circuit;
use crate::dhcp::packet::{Kind, Message, Op, code};
use crate::dhcp::pi;

/// Whom the station serves besides the devices that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Boot clients whose option 97 shows a Raspberry Pi.
    Pi,
    /// Those, and every client that boots from the network (PXE, UEFI HTTP, U-Boot).
    PiPxe,
    All,
}

/// Whether this station gives the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    /// Another server does; this one says where to boot from.
    Proxy,
}

/// Nothing for what is looped, relayed by nobody we could answer, or meant for another server.
pub fn observation(message: &Message, server: Ipv4Addr, serve: Serve, role: Role) -> Option<Observation> {
    if message.op != Op::Request || !message.chaddr.is_unicast() || !can_relay(message.giaddr, server) {
        return None;
    }
    // A client that has taken another server's offer names that server.
    let proxy = role == Role::Proxy;
    if !proxy && message.address(code::SERVER_ID).is_some_and(|chosen| chosen != server) {
        return None;
    }
    let mac = message.chaddr;
    let current = Some(message.ciaddr).filter(|address| !address.is_unspecified());
    let asked = message.address(code::REQUESTED_ADDRESS).filter(|address| !address.is_unspecified());
    let ask = |kind, requested| {
        let anyone = may_be_anyone(message, serve);
        let circuit = message.option(code::RELAY_AGENT).and_then(circuit::place);
        Some(Observation::Dhcp(DhcpAsk {
            kind,
            mac,
            identity: pi::identify(message),
            circuit,
            requested,
            anyone,
            proxy,
        }))
    };
    match message.kind()? {
        Kind::Discover => ask(DhcpKind::Discover, asked),
        Kind::Request => ask(DhcpKind::Request, asked.or(current)),
        Kind::Inform => ask(DhcpKind::Inform, current),
        // The other server's addresses are not ours to take back.
        Kind::Release | Kind::Decline if proxy => None,
        Kind::Release => Some(Observation::DhcpReleased { mac, address: current? }),
        Kind::Decline => Some(Observation::DhcpDeclined { mac, address: asked? }),
        Kind::Offer | Kind::Ack | Kind::Nak => None,
    }
}

/// At the port of a boot server: whoever asks has an address, from this server or another.
pub fn at_boot_server(message: &Message, server: Ipv4Addr, serve: Serve) -> Option<Observation> {
    let asks = matches!(message.kind()?, Kind::Discover | Kind::Request | Kind::Inform);
    let chosen = message.address(code::SERVER_ID).is_none_or(|chosen| chosen == server);
    if message.op != Op::Request || !message.chaddr.is_unicast() || !message.giaddr.is_unspecified() || !asks || !chosen
    {
        return None;
    }
    Some(Observation::Dhcp(DhcpAsk {
        kind: DhcpKind::BootServer,
        mac: message.chaddr,
        identity: pi::identify(message),
        circuit: None,
        requested: None,
        anyone: !pi::is_bootloader(message) && may_be_anyone(message, serve),
        proxy: false,
    }))
}

/// The server whose offer a client has taken.
pub fn chosen(message: &Message) -> Option<Ipv4Addr> {
    let is_request = message.op == Op::Request && message.kind() == Some(Kind::Request);
    message.address(code::SERVER_ID).filter(|_| is_request)
}

fn may_be_anyone(message: &Message, serve: Serve) -> bool {
    let class = message.option(code::VENDOR_CLASS).unwrap_or_default();
    match serve {
        Serve::Pi => false,
        Serve::PiPxe => [&b"PXEClient"[..], b"HTTPClient", b"U-Boot"].iter().any(|known| class.starts_with(known)),
        Serve::All => true,
    }
}

fn can_relay(giaddr: Ipv4Addr, server: Ipv4Addr) -> bool {
    let is_host = !giaddr.is_multicast() && !giaddr.is_broadcast() && !giaddr.is_loopback();
    giaddr.is_unspecified() || (is_host && giaddr != server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::{Family, Mac};

    const SERVER: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 99);

    fn message(kind: Kind) -> Message {
        Message::request(1, Mac::new([0xe4, 0x5f, 1, 2, 3, 4]), vec![(code::KIND, vec![kind as u8])])
    }

    fn ask(message: &Message, serve: Serve) -> Option<DhcpAsk> {
        match observation(message, SERVER, serve, Role::Server)? {
            Observation::Dhcp(ask) => Some(ask),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_golden_discovers_show_their_devices() {
        for (text, family) in [
            (include_str!("../../tests/vectors/dhcp/pi4-discover.hex"), Some(Family::Pi4)),
            (include_str!("../../tests/vectors/dhcp/pi5-discover.hex"), Some(Family::Pi5)),
            (include_str!("../../tests/vectors/dhcp/pi3-rom-discover.hex"), Some(Family::Pi3)),
            (include_str!("../../tests/vectors/dhcp/pi3-bootcode-discover.hex"), Some(Family::Pi3)),
            (include_str!("../../tests/vectors/dhcp/udhcpc-discover.hex"), None),
            (include_str!("../../tests/vectors/dhcp/uefi-http-discover.hex"), None),
        ] {
            let ask = ask(&Message::parse(&crate::dhcp::tests::bytes(text)).unwrap(), Serve::Pi).unwrap();
            assert_eq!(ask.kind, DhcpKind::Discover);
            assert_eq!(ask.identity.map(|identity| identity.family), family, "{text}");
            assert!(!ask.anyone);
        }
    }

    #[test]
    fn a_request_for_another_server_is_not_ours() {
        let mut request = message(Kind::Request);
        request.options.push((code::REQUESTED_ADDRESS, vec![172, 20, 0, 16]));
        assert_eq!(ask(&request, Serve::Pi).unwrap().requested, Some(Ipv4Addr::new(172, 20, 0, 16)));
        request.options.push((code::SERVER_ID, SERVER.octets().to_vec()));
        assert!(ask(&request, Serve::Pi).is_some());
        request.options.last_mut().unwrap().1 = OTHER.octets().to_vec();
        assert!(ask(&request, Serve::Pi).is_none());
    }

    #[test]
    fn beside_another_server_the_address_that_it_gave_is_noted() {
        let mut request = message(Kind::Request);
        request.options.push((code::REQUESTED_ADDRESS, vec![172, 20, 0, 16]));
        request.options.push((code::SERVER_ID, OTHER.octets().to_vec()));
        let heard = observation(&request, SERVER, Serve::Pi, Role::Proxy);
        assert!(
            matches!(&heard, Some(Observation::Dhcp(ask)) if ask.proxy && ask.requested == Some(Ipv4Addr::new(172, 20, 0, 16))),
            "{heard:?}"
        );
        let mut release = message(Kind::Release);
        release.ciaddr = OTHER;
        assert!(observation(&release, SERVER, Serve::Pi, Role::Proxy).is_none());
    }

    #[test]
    fn a_renewal_asks_for_the_address_it_has() {
        let mut request = message(Kind::Request);
        request.ciaddr = OTHER;
        assert_eq!(ask(&request, Serve::Pi).unwrap().requested, Some(OTHER));
    }

    #[test]
    fn replies_odd_addresses_and_looped_packets_are_ignored() {
        let good = message(Kind::Discover);
        let odd = [
            Message { op: Op::Reply, ..good.clone() },
            Message { chaddr: Mac::new([1, 0, 0x5e, 0, 0, 1]), ..good.clone() },
            Message { chaddr: Mac::new([0; 6]), ..good.clone() },
            Message { giaddr: SERVER, ..good.clone() },
            Message { giaddr: Ipv4Addr::BROADCAST, ..good.clone() },
            message(Kind::Offer),
            Message { options: vec![], ..good.clone() },
        ];
        assert!(ask(&good, Serve::Pi).is_some());
        for message in odd {
            assert!(observation(&message, SERVER, Serve::All, Role::Server).is_none(), "{message:?}");
        }
    }

    #[test]
    fn the_configuration_says_who_is_anyone() {
        let mut client = message(Kind::Discover);
        let anyone = |client: &Message, serve| ask(client, serve).unwrap().anyone;
        assert!(anyone(&client, Serve::All) && !anyone(&client, Serve::PiPxe));
        client.options.push((code::VENDOR_CLASS, b"HTTPClient:Arch:00016:UNDI:003000".to_vec()));
        assert!(anyone(&client, Serve::PiPxe) && !anyone(&client, Serve::Pi));
    }

    #[test]
    fn at_the_port_of_a_boot_server_a_pi_is_nobody() {
        let at = |text, serve| match at_boot_server(&crate::dhcp::tests::golden(text), SERVER, serve) {
            Some(Observation::Dhcp(ask)) => {
                (ask.kind == DhcpKind::BootServer).then_some((ask.anyone, ask.identity.is_some()))
            }
            _ => None,
        };
        let uefi = include_str!("../../tests/vectors/dhcp/uefi-pxe-arm64-request.hex");
        assert_eq!(at(uefi, Serve::PiPxe), Some((true, false)));
        assert_eq!(at(uefi, Serve::Pi), Some((false, false)));
        let pi = include_str!("../../tests/vectors/dhcp/pi4-request.hex");
        assert_eq!(at(pi, Serve::All), Some((false, true)));
        let mut request = crate::dhcp::tests::golden(uefi);
        request.options[1].1 = OTHER.octets().to_vec();
        assert!(at_boot_server(&request, SERVER, Serve::All).is_none(), "it asks another");
        assert!(at_boot_server(&message(Kind::Release), SERVER, Serve::All).is_none());
    }

    #[test]
    fn release_and_decline_name_their_address() {
        let mut release = message(Kind::Release);
        assert!(observation(&release, SERVER, Serve::Pi, Role::Server).is_none());
        release.ciaddr = OTHER;
        assert!(matches!(
            observation(&release, SERVER, Serve::Pi, Role::Server),
            Some(Observation::DhcpReleased { address: OTHER, .. })
        ));
        let mut decline = message(Kind::Decline);
        decline.options.push((code::REQUESTED_ADDRESS, OTHER.octets().to_vec()));
        assert!(matches!(
            observation(&decline, SERVER, Serve::Pi, Role::Server),
            Some(Observation::DhcpDeclined { address: OTHER, .. })
        ));
    }
}
