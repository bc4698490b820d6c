//! What a client is answered: the reply as a value, and where it goes (RFC 2131 §4.1, §4.3).
//!
//! A bootloader gets everything at once and whatever it asked for: its request list names neither the lease time nor
//! the server. Order and values are those of a server that is known to boot these boards. Other boot clients get what
//! the configuration says, and no more than they can take.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::device::Mac;
use crate::core::view::{DhcpVerdict, Lease};
use crate::dhcp::boot::{self, BootFiles, Client};
use crate::dhcp::packet::{BROADCAST, Kind, Message, Op, code};
use crate::dhcp::pi;

/// The station as its clients see it. It is DHCP server, TFTP server and router in one, because bootloaders differ in
/// which of the three they believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station<'a> {
    pub server: Ipv4Addr,
    pub prefix_len: u8,
    pub boot: &'a BootFiles,
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
pub fn answer(ask: &Message, verdict: DhcpVerdict, station: Station<'_>) -> Option<(Message, To)> {
    let reply = match (verdict, ask.kind()?) {
        (DhcpVerdict::Lease(lease), Kind::Discover) => leased(ask, Kind::Offer, lease, station),
        (DhcpVerdict::Lease(lease), Kind::Request) => leased(ask, Kind::Ack, lease, station),
        (DhcpVerdict::Nak, Kind::Request) => refused(ask, station),
        (DhcpVerdict::OptionsOnly, Kind::Inform) => informed(ask, station),
        (DhcpVerdict::Proxy, Kind::Discover) if pi::is_bootloader(ask) => beside(ask, station),
        (DhcpVerdict::Proxy, Kind::Discover) => directed(ask, Kind::Offer, station)?,
        (DhcpVerdict::BootServer, Kind::Discover | Kind::Request | Kind::Inform) => directed(ask, Kind::Ack, station)?,
        _ => return None,
    };
    let reply = fit(ask, reply);
    let to = destination(ask, &reply);
    Some((reply, to))
}

fn leased(ask: &Message, kind: Kind, lease: Lease, station: Station<'_>) -> Message {
    let mut options = head(kind, station);
    options.extend(times(lease.time));
    options.extend(network(station));
    options.extend(boot(ask, station));
    options.extend(echo(ask));
    let file = file(ask, station);
    Message { yiaddr: lease.address, siaddr: station.server, ciaddr: ask.ciaddr, file, ..reply(ask, options) }
}

fn informed(ask: &Message, station: Station<'_>) -> Message {
    let mut options = head(Kind::Ack, station);
    options.extend(network(station));
    options.extend(boot(ask, station));
    options.extend(echo(ask));
    Message { siaddr: station.server, ciaddr: ask.ciaddr, file: file(ask, station), ..reply(ask, options) }
}

/// An offer without an address, to be taken together with that of another server. It names nothing but how to boot: the
/// station is found by the server id and the source of the packet.
fn beside(ask: &Message, station: Station<'_>) -> Message {
    let mut options = head(Kind::Offer, station);
    options.extend(boot(ask, station).into_iter().filter(|(code, _)| *code != code::TFTP_SERVER));
    options.extend(echo(ask));
    let mut offer = reply(ask, options);
    offer.flags |= BROADCAST;
    offer
}

/// What a client is to load that is no Raspberry Pi and has its address from elsewhere; nothing if it is to load nothing.
fn directed(ask: &Message, kind: Kind, station: Station<'_>) -> Option<Message> {
    station.boot.find(ask)?;
    let mut options = head(kind, station);
    options.extend(boot(ask, station));
    options.extend(echo(ask));
    Some(Message { siaddr: station.server, ciaddr: ask.ciaddr, file: file(ask, station), ..reply(ask, options) })
}

fn refused(ask: &Message, station: Station<'_>) -> Message {
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

fn head(kind: Kind, station: Station<'_>) -> Vec<(u8, Vec<u8>)> {
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

fn network(station: Station<'_>) -> [(u8, Vec<u8>); 3] {
    let mask = u32::MAX.checked_shl(32 - u32::from(station.prefix_len.min(32))).unwrap_or(0);
    let broadcast = u32::from(station.server) | !mask;
    [
        (code::SUBNET_MASK, mask.to_be_bytes().to_vec()),
        (code::BROADCAST_ADDRESS, broadcast.to_be_bytes().to_vec()),
        (code::ROUTER, station.server.octets().to_vec()),
    ]
}

/// What makes a bootloader take this offer as a boot offer.
fn boot(ask: &Message, station: Station<'_>) -> Vec<(u8, Vec<u8>)> {
    if !pi::is_bootloader(ask) {
        return station.boot.find(ask).map(|(client, file)| load(ask, client, file, station)).unwrap_or_default();
    }
    let mut options =
        vec![(code::TFTP_SERVER, station.server.to_string().into_bytes()), (code::VENDOR_CLASS, b"PXEClient".to_vec())];
    if let Some(id) = ask.option(code::MACHINE_ID) {
        options.push((code::MACHINE_ID, id.to_vec()));
    }
    options.push((code::VENDOR_SPECIFIC, pi::vendor_options(pi::identify(ask))));
    options
}

fn load(ask: &Message, client: Client, file: &str, station: Station<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    if !boot::is_url(file) {
        options.push((code::TFTP_SERVER, station.server.to_string().into_bytes()));
    }
    match client {
        Client::UBoot => {}
        // Without it the client takes no offer.
        http if http.is_http() => options.push((code::VENDOR_CLASS, b"HTTPClient".to_vec())),
        _ => options.push((code::VENDOR_CLASS, b"PXEClient".to_vec())),
    }
    if let Some(id) = ask.option(code::MACHINE_ID) {
        options.push((code::MACHINE_ID, id.to_vec()));
    }
    if !client.is_http() && client != Client::UBoot {
        options.push((code::VENDOR_SPECIFIC, boot_options(ask)));
    }
    let mut name = file.as_bytes().to_vec();
    // EDK2 writes a zero behind the text if there is none: into the next option.
    if name.len() < usize::from(u8::MAX) {
        name.push(0);
    }
    options.push((code::BOOT_FILE, name));
    if client == Client::Ipxe {
        options.push((code::IPXE, NO_PROXY.to_vec()));
    }
    options
}

/// Option 43 of a client that is told its file. Who was sent to port 4011 by another server's menu has its item there,
/// and iPXE takes no answer that does not repeat it.
fn boot_options(ask: &Message) -> Vec<u8> {
    let mut options = JUST_THE_FILE.to_vec();
    if let Some(item) = ask.option(code::VENDOR_SPECIFIC).and_then(menu_item) {
        options.extend(item);
    }
    options.push(u8::MAX);
    options
}

/// Sub-option 71, `PXE_BOOT_ITEM`: the type of the boot server and the layer.
fn menu_item(mut rest: &[u8]) -> Option<&[u8]> {
    while let [code, length, ..] = *rest {
        let (option, after) = rest.split_at_checked(2 + usize::from(length))?;
        if (code, length) == (71, 4) {
            return Some(option);
        }
        rest = after;
    }
    None
}

/// The field of BOOTP; a URL stands in option 67 alone.
fn file(ask: &Message, station: Station<'_>) -> Vec<u8> {
    station.boot.find(ask).filter(|(_, file)| !boot::is_url(file)).map(|(_, file)| file.into()).unwrap_or_default()
}

/// Leaves out what the client can do without until the reply is as long as it can take. What a relay gets back is not
/// counted: it takes that out again.
fn fit(ask: &Message, mut reply: Message) -> Message {
    let most = match ask.option(code::MAXIMUM_SIZE) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])).saturating_sub(HEADERS).clamp(LEAST, MOST),
        _ => USUAL,
    };
    let relayed = reply.option(code::RELAY_AGENT).map_or(0, |value| value.len() + 2);
    for spare in SPARE {
        if reply.encode().len() - relayed <= most {
            break;
        }
        let is_said_twice = spare != code::BOOT_FILE || !reply.file.is_empty();
        reply.options.retain(|(code, _)| *code != spare || !is_said_twice);
    }
    reply
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

/// Option 43: discovery control 8. Load the file that is named: no menu, no search for boot servers.
const JUST_THE_FILE: &[u8] = &[6, 1, 8];
/// `no-pxedhcp`, sub-option 176 of iPXE: it need not wait for a proxy.
const NO_PROXY: &[u8] = &[176, 1, 1];
/// In the order in which they go. Bootfile and server stand in the header too.
const SPARE: [u8; 9] = [
    code::BROADCAST_ADDRESS,
    code::REBINDING_TIME,
    code::RENEWAL_TIME,
    code::TFTP_SERVER,
    code::IPXE,
    code::BOOT_FILE,
    code::ROUTER,
    code::MACHINE_ID,
    code::CLIENT_ID,
];
/// IP and UDP, which option 57 counts too.
const HEADERS: usize = 28;
/// Whatever a client says, it takes a BOOTP message.
const LEAST: usize = 300;
/// What fits one Ethernet packet.
const MOST: usize = 1500 - HEADERS;
/// What everyone takes (RFC 2131 §2).
const USUAL: usize = 576 - HEADERS;
