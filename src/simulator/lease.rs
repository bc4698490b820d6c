//! A DHCP client without an address (RFC 2131): DISCOVER, OFFER, REQUEST, ACK. Two personalities use it in one boot.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::core::device::Mac;
use crate::dhcp::packet::{Kind, Message, code};
use crate::simulator::ether::{BROADCAST, Datagram, Ether};

/// Who asks: the options of its messages, in their order, and which offers it takes.
#[derive(Clone, Debug)]
pub struct Personality {
    pub discover: Vec<(u8, Vec<u8>)>,
    /// Options 50 and 54 are put after option 53.
    pub request: Vec<(u8, Vec<u8>)>,
    pub takes: fn(&Message) -> bool,
    /// Between two sendings of the same message.
    pub again: Duration,
    /// For the whole of it.
    pub patience: Duration,
}

/// What the ACK gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub server: Ipv4Addr,
    /// `siaddr`, or option 66, or the server itself.
    pub tftp: Ipv4Addr,
}

/// Gets an address. The result's message is the ACK; times are the caller's.
pub fn acquire(ether: &Ether, who: &Personality) -> Result<Leased, Unanswered> {
    let end = Instant::now() + who.patience;
    let xid = dice();
    let discover = Message::request(xid, ether.mac(), who.discover.clone());
    loop {
        let offer = exchange(ether, &discover, who.again, end, &|reply| {
            reply.kind() == Some(Kind::Offer) && !reply.yiaddr.is_unspecified() && (who.takes)(reply)
        })?;
        let request = Message::request(xid, ether.mac(), request_options(who, &offer));
        let reply =
            exchange(ether, &request, who.again, end, &|reply| matches!(reply.kind(), Some(Kind::Ack | Kind::Nak)))?;
        // After a NAK a client begins anew.
        if reply.kind() == Some(Kind::Ack) {
            return Ok(Leased::read(&reply));
        }
    }
}

/// The four letters that a device says goodbye with.
pub fn release(mac: Mac, leased: &Leased, client_id: Vec<u8>) -> Message {
    let options =
        vec![(code::KIND, vec![7]), (code::CLIENT_ID, client_id), (code::SERVER_ID, leased.server.octets().to_vec())];
    Message { ciaddr: leased.address, ..Message::request(dice(), mac, options) }
}

impl Leased {
    fn read(ack: &Message) -> Self {
        let server = ack.address(code::SERVER_ID).unwrap_or(ack.siaddr);
        let named = ack.option(code::TFTP_SERVER).and_then(|text| std::str::from_utf8(text).ok());
        let named = named.and_then(|text| text.trim_end_matches('\0').parse().ok());
        let tftp = if ack.siaddr.is_unspecified() { named.unwrap_or(server) } else { ack.siaddr };
        let mask = ack.address(code::SUBNET_MASK).map_or(0xffff_ff00, u32::from);
        let prefix = u8::try_from(mask.leading_ones()).unwrap_or(24);
        Self { address: ack.yiaddr, prefix, server, tftp }
    }
}

/// Option 53, then what the offer said, then the rest.
fn request_options(who: &Personality, offer: &Message) -> Vec<(u8, Vec<u8>)> {
    let server = offer.address(code::SERVER_ID).unwrap_or(offer.siaddr);
    let mut options = who.request.clone();
    let at = usize::from(!options.is_empty());
    options.splice(
        at..at,
        [(code::REQUESTED_ADDRESS, offer.yiaddr.octets().to_vec()), (code::SERVER_ID, server.octets().to_vec())],
    );
    options
}

/// Sends until a wanted answer with our transaction number and address comes.
fn exchange(
    ether: &Ether,
    message: &Message,
    again: Duration,
    end: Instant,
    wanted: &dyn Fn(&Message) -> bool,
) -> Result<Message, Unanswered> {
    let datagram = Datagram {
        source: (Ipv4Addr::UNSPECIFIED, CLIENT),
        target: (Ipv4Addr::BROADCAST, SERVER),
        payload: message.encode(),
    };
    let mut sent = 0;
    while Instant::now() < end {
        ether.send(&datagram, BROADCAST).map_err(Unanswered::Ether)?;
        sent += 1;
        let until = end.min(Instant::now() + again);
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let Some(heard) = ether.receive(left).map_err(Unanswered::Ether)? else {
                continue;
            };
            if heard.target.1 != CLIENT {
                continue;
            }
            match Message::parse(&heard.payload) {
                Ok(reply) if reply.xid == message.xid && reply.chaddr == ether.mac() && wanted(&reply) => {
                    return Ok(reply);
                }
                _ => {}
            }
        }
    }
    Err(Unanswered::Silence { what: message.kind(), sent })
}

/// A transaction number.
fn dice() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(Instant::now()).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

pub const CLIENT: u16 = 68;
pub const SERVER: u16 = 67;

/// No address was had.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("no suitable answer to {sent} {what:?}")]
    Silence { what: Option<Kind>, sent: u32 },
    #[error("cannot use eth0")]
    Ether(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tftp_server_is_siaddr_or_option_66_or_the_dhcp_server() {
        let server = Ipv4Addr::new(192, 168, 5, 1);
        let other = Ipv4Addr::new(192, 168, 5, 2);
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let mut ack = Message::request(1, mac, vec![(54, server.octets().to_vec()), (1, vec![255, 255, 0, 0])]);
        assert_eq!((Leased::read(&ack).tftp, Leased::read(&ack).prefix), (server, 16));
        ack.options.push((66, b"192.168.5.2\0".to_vec()));
        assert_eq!(Leased::read(&ack).tftp, other);
        ack.siaddr = server;
        assert_eq!(Leased::read(&ack).tftp, server);
    }
}
