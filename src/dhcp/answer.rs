//! What a client is answered: the reply as a value, and where it goes (RFC 2131 §4.1, §4.3).
//!
//! A bootloader gets everything at once and whatever it asked for: its request list names neither the lease time nor
//! the server. Order and values are those of a server that is known to boot these boards.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::device::Mac;
use crate::core::view::{DhcpVerdict, Lease};
use crate::dhcp::packet::{BROADCAST, Kind, Message, Op, code};
use crate::dhcp::pi;

/// The station as its clients see it. It is DHCP server, TFTP server and router in one, because bootloaders differ in
/// which of the three they believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    pub server: Ipv4Addr,
    pub prefix_len: u8,
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Broadcast,
    /// To a client that may not answer ARP yet.
    Unicast {
        mac: Mac,
        address: Ipv4Addr,
    },
    Relay(Ipv4Addr),
}

/// The reply to a message that the core has judged; nothing if there is nothing to say.
pub fn answer(ask: &Message, verdict: DhcpVerdict, station: Station) -> Option<(Message, To)> {
    let reply = match (verdict, ask.kind()?) {
        (DhcpVerdict::Lease(lease), Kind::Discover) => leased(ask, Kind::Offer, lease, station),
        (DhcpVerdict::Lease(lease), Kind::Request) => leased(ask, Kind::Ack, lease, station),
        (DhcpVerdict::Nak, Kind::Request) => refused(ask, station),
        (DhcpVerdict::OptionsOnly, Kind::Inform) => informed(ask, station),
        (DhcpVerdict::Proxy, Kind::Discover) if pi::is_bootloader(ask) => beside(ask, station),
        _ => return None,
    };
    let to = destination(ask, &reply);
    Some((reply, to))
}

fn leased(ask: &Message, kind: Kind, lease: Lease, station: Station) -> Message {
    let mut options = head(kind, station);
    options.extend(times(lease.time));
    options.extend(network(station));
    options.extend(boot(ask, station));
    options.extend(echo(ask));
    Message { yiaddr: lease.address, siaddr: station.server, ciaddr: ask.ciaddr, ..reply(ask, options) }
}

fn informed(ask: &Message, station: Station) -> Message {
    let mut options = head(Kind::Ack, station);
    options.extend(network(station));
    options.extend(boot(ask, station));
    options.extend(echo(ask));
    Message { siaddr: station.server, ciaddr: ask.ciaddr, ..reply(ask, options) }
}

/// An offer without an address, to be taken together with that of another server. It names nothing but how to boot: the
/// station is found by the server id and the source of the packet.
fn beside(ask: &Message, station: Station) -> Message {
    let mut options = head(Kind::Offer, station);
    options.extend(boot(ask, station).into_iter().filter(|(code, _)| *code != code::TFTP_SERVER));
    options.extend(echo(ask));
    let mut offer = reply(ask, options);
    offer.flags |= BROADCAST;
    offer
}

fn refused(ask: &Message, station: Station) -> Message {
    let mut options = head(Kind::Nak, station);
    options.push((code::MESSAGE, b"the address is not yours".to_vec()));
    options.extend(echo(ask));
    let mut nak = reply(ask, options);
    // RFC 2131 §4.3.2: the relay is told to broadcast it, for the client has no address to take it with.
    if !ask.giaddr.is_unspecified() {
        nak.flags |= BROADCAST;
    }
    nak
}

fn reply(ask: &Message, options: Vec<(u8, Vec<u8>)>) -> Message {
    let empty = Message::request(ask.xid, ask.chaddr, options);
    Message { op: Op::Reply, flags: ask.flags, giaddr: ask.giaddr, ..empty }
}

fn head(kind: Kind, station: Station) -> Vec<(u8, Vec<u8>)> {
    vec![(code::KIND, vec![kind as u8]), (code::SERVER_ID, station.server.octets().to_vec())]
}

fn times(lease: Duration) -> [(u8, Vec<u8>); 3] {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    [
        (code::LEASE_TIME, seconds(lease)),
        (code::RENEWAL_TIME, seconds(lease / 2)),
        (code::REBINDING_TIME, seconds(lease.saturating_mul(7) / 8)),
    ]
}

fn network(station: Station) -> [(u8, Vec<u8>); 3] {
    let mask = u32::MAX.checked_shl(32 - u32::from(station.prefix_len.min(32))).unwrap_or(0);
    let broadcast = u32::from(station.server) | !mask;
    [
        (code::SUBNET_MASK, mask.to_be_bytes().to_vec()),
        (code::BROADCAST_ADDRESS, broadcast.to_be_bytes().to_vec()),
        (code::ROUTER, station.server.octets().to_vec()),
    ]
}

/// What makes a bootloader take this offer as a boot offer.
fn boot(ask: &Message, station: Station) -> Vec<(u8, Vec<u8>)> {
    if !pi::is_bootloader(ask) {
        return Vec::new();
    }
    let mut options =
        vec![(code::TFTP_SERVER, station.server.to_string().into_bytes()), (code::VENDOR_CLASS, b"PXEClient".to_vec())];
    if let Some(id) = ask.option(code::MACHINE_ID) {
        options.push((code::MACHINE_ID, id.to_vec()));
    }
    options.push((code::VENDOR_SPECIFIC, pi::vendor_options(pi::identify(ask))));
    options
}

/// The client's own words, given back: its id (RFC 6842) and, last, what a relay or switch has added (RFC 3046).
fn echo(ask: &Message) -> impl Iterator<Item = (u8, Vec<u8>)> {
    [code::CLIENT_ID, code::RELAY_AGENT]
        .into_iter()
        .filter_map(|code| ask.option(code).map(|value| (code, value.to_vec())))
}

fn destination(ask: &Message, reply: &Message) -> To {
    let mac = ask.chaddr;
    if !ask.giaddr.is_unspecified() {
        return To::Relay(ask.giaddr);
    }
    if reply.kind() == Some(Kind::Nak) {
        return To::Broadcast;
    }
    if !ask.ciaddr.is_unspecified() {
        return To::Unicast { mac, address: ask.ciaddr };
    }
    if ask.wants_broadcast() || reply.yiaddr.is_unspecified() {
        return To::Broadcast;
    }
    To::Unicast { mac, address: reply.yiaddr }
}
