//! A DHCP client without an address (RFC 2131): DISCOVER, OFFER, REQUEST, ACK. Several personalities use it in one boot.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::device::Mac;
use crate::dhcp::packet::{Kind, Message, code};
use crate::simulator::clock::now;
use crate::simulator::ether::{BROADCAST, Datagram, Ether};

/// Who asks: the options of its messages, in their order, and which offers it takes.
#[derive(Clone, Debug)]
pub struct Personality {
    /// Nothing: a new one each time.
    pub xid: Option<u32>,
    pub discover: Vec<(u8, Vec<u8>)>,
    /// Options 50 and 54 are put after option 53.
    pub request: Vec<(u8, Vec<u8>)>,
    /// Is this offer, or this part of an offer, what it looks for?
    pub takes: fn(&Message) -> bool,
    pub believes: Believes,
    pub ends: Ends,
    /// Between two sendings of the same message.
    pub again: Duration,
    /// For the whole of it.
    pub patience: Duration,
}

/// With which message it has its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The firmware of a Pi 3 never sends a REQUEST.
    Offer,
    Ack,
}

/// Where it looks for the address of the TFTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Believes {
    /// The one who answered (raspberrypi/firmware#801, #871, #1265).
    Server,
    /// `siaddr`, or option 66, or the one who answered.
    NextServer,
}

/// What the last message gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub server: Ipv4Addr,
    pub tftp: Ipv4Addr,
}

/// What to do while nothing comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    Send(Message),
    Wait(Duration),
    GiveUp,
}

/// One way to an address, without socket and clock.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    who: &'a Personality,
    mac: Mac,
    message: Message,
    send_at: Duration,
    end: Duration,
    sent: u32,
    /// Offers that it does not look for.
    passed_over: u32,
    /// An address without how to boot, and how to boot without an address: a plain server and a proxy beside it.
    plain: Option<Message>,
    proxy: Option<Message>,
}

impl<'a> Asking<'a> {
    pub fn begin(who: &'a Personality, mac: Mac, xid: u32, now: Duration) -> Self {
        Self {
            who,
            mac,
            message: Message::request(who.xid.unwrap_or(xid), mac, who.discover.clone()),
            send_at: now,
            end: now + who.patience,
            sent: 0,
            passed_over: 0,
            plain: None,
            proxy: None,
        }
    }

    pub fn wake(&mut self, now: Duration) -> Wake {
        if now >= self.end {
            return Wake::GiveUp;
        }
        if now < self.send_at {
            return Wake::Wait(self.end.min(self.send_at));
        }
        self.send_at = now + self.who.again;
        self.sent += 1;
        Wake::Send(self.message.clone())
    }

    /// The lease, if the reply completes it. A new message may be due afterwards.
    pub fn heard(&mut self, reply: &Message, now: Duration) -> Option<Leased> {
        if reply.xid != self.message.xid || reply.chaddr != self.mac {
            return None;
        }
        match (self.message.kind(), reply.kind()) {
            (Some(Kind::Discover), Some(Kind::Offer)) => self.offered(reply, now),
            (Some(Kind::Request), Some(Kind::Ack)) => Some(self.leased(reply)),
            (Some(Kind::Request), Some(Kind::Nak)) => {
                // After a NAK a client begins anew.
                (self.plain, self.proxy) = (None, None);
                self.turn_to(self.who.discover.clone(), now);
                None
            }
            _ => None,
        }
    }

    fn offered(&mut self, offer: &Message, now: Duration) -> Option<Leased> {
        let (has_address, boots) = (!offer.yiaddr.is_unspecified(), (self.who.takes)(offer));
        match (has_address, boots) {
            (true, true) => (self.plain, self.proxy) = (Some(offer.clone()), Some(offer.clone())),
            (true, false) => self.plain = Some(offer.clone()),
            (false, true) => self.proxy = Some(offer.clone()),
            (false, false) => {}
        }
        let (Some(plain), Some(_)) = (&self.plain, &self.proxy) else {
            self.passed_over += 1;
            return None;
        };
        if self.who.ends == Ends::Offer {
            return Some(self.leased(plain));
        }
        let options = request_options(self.who, plain);
        self.turn_to(options, now);
        None
    }

    fn turn_to(&mut self, options: Vec<(u8, Vec<u8>)>, now: Duration) {
        self.message = Message::request(self.message.xid, self.mac, options);
        self.send_at = now;
    }

    fn leased(&self, last: &Message) -> Leased {
        let mut leased = Leased::read(last, self.who.believes);
        if let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.yiaddr.is_unspecified()) {
            leased.tftp = Leased::read(proxy, Believes::Server).server;
        }
        leased
    }

    pub fn silence(&self) -> Unanswered {
        Unanswered::Silence { what: self.message.kind(), sent: self.sent, passed_over: self.passed_over }
    }
}

/// Gets an address, and the address of the interface that it came from.
pub fn acquire(ether: &Ether, who: &Personality) -> Result<(Leased, Mac), Unanswered> {
    let mut asking = Asking::begin(who, ether.mac(), dice(), now());
    loop {
        let until = match asking.wake(now()) {
            Wake::Wait(until) => until,
            Wake::GiveUp => return Err(asking.silence()),
            Wake::Send(message) => {
                let datagram = Datagram {
                    source: (Ipv4Addr::UNSPECIFIED, CLIENT),
                    target: (Ipv4Addr::BROADCAST, SERVER),
                    payload: message.encode(),
                };
                ether.send(&datagram, BROADCAST).map_err(Unanswered::Ether)?;
                continue;
            }
        };
        let heard = ether.receive(until.saturating_sub(now())).map_err(Unanswered::Ether)?;
        let Some(heard) = heard.filter(|heard| heard.datagram.target.1 == CLIENT) else {
            continue;
        };
        if let Ok(reply) = Message::parse(&heard.datagram.payload)
            && let Some(leased) = asking.heard(&reply, now())
        {
            return Ok((leased, heard.from));
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
    fn read(last: &Message, believes: Believes) -> Self {
        let server = last.address(code::SERVER_ID).unwrap_or(last.siaddr);
        let named = last.option(code::TFTP_SERVER).and_then(|text| std::str::from_utf8(text).ok());
        let named = named.and_then(|text| text.trim_end_matches('\0').parse().ok());
        let tftp = match believes {
            Believes::Server => server,
            Believes::NextServer if last.siaddr.is_unspecified() => named.unwrap_or(server),
            Believes::NextServer => last.siaddr,
        };
        let mask = last.address(code::SUBNET_MASK).map_or(0xffff_ff00, u32::from);
        let prefix = u8::try_from(mask.leading_ones()).unwrap_or(24);
        Self { address: last.yiaddr, prefix, server, tftp }
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

/// A transaction number.
fn dice() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(now()).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

pub const CLIENT: u16 = 68;
pub const SERVER: u16 = 67;

/// No address was had.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("no suitable answer to {sent} {what:?}, {passed_over} offers were not suitable")]
    Silence { what: Option<Kind>, sent: u32, passed_over: u32 },
    #[error("cannot use eth0")]
    Ether(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const STATION: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 2);
    const SECOND: Duration = Duration::from_secs(1);

    fn who(ends: Ends) -> Personality {
        Personality {
            xid: Some(7),
            discover: vec![(53, vec![1])],
            request: vec![(53, vec![3]), (60, vec![9])],
            takes: |offer| offer.option(43).is_some(),
            believes: Believes::NextServer,
            ends,
            again: 5 * SECOND,
            patience: 25 * SECOND,
        }
    }

    fn reply(kind: u8, address: u8, from: Ipv4Addr, more: Vec<(u8, Vec<u8>)>) -> Message {
        let options = [vec![(53, vec![kind]), (54, from.octets().to_vec())], more].concat();
        Message { yiaddr: [0, 0, 0, address].into(), ..Message::request(7, MAC, options) }
    }

    fn menu() -> Vec<(u8, Vec<u8>)> {
        vec![(43, vec![1])]
    }

    #[test]
    fn it_asks_five_times_in_25_seconds_and_gives_up() {
        let who = who(Ends::Offer);
        let mut asking = Asking::begin(&who, MAC, 1, SECOND);
        for second in [1, 6, 11, 16, 21] {
            assert!(matches!(asking.wake(second * SECOND), Wake::Send(_)), "{second}");
            assert_eq!(asking.wake(second * SECOND), Wake::Wait((second + 5) * SECOND));
        }
        assert_eq!(asking.wake(26 * SECOND), Wake::GiveUp);
        assert!(asking.silence().to_string().starts_with("no suitable answer to 5 Some(Discover)"));
    }

    #[test]
    fn who_takes_the_offer_is_done_with_it_and_who_requests_waits_for_the_ack() {
        let offer = reply(2, 9, STATION, menu());
        let rom = who(Ends::Offer);
        let leased = Asking::begin(&rom, MAC, 1, SECOND).heard(&offer, SECOND).unwrap();
        assert_eq!((leased.address, leased.tftp), (Ipv4Addr::new(0, 0, 0, 9), STATION));
        let bootloader = who(Ends::Ack);
        let mut asking = Asking::begin(&bootloader, MAC, 1, SECOND);
        assert_eq!(asking.heard(&offer, SECOND), None);
        let Wake::Send(request) = asking.wake(SECOND) else { panic!("no request") };
        let codes: Vec<u8> = request.options.iter().map(|(code, _)| *code).collect();
        assert_eq!((request.xid, codes), (7, vec![53, 50, 54, 60]));
        assert!(asking.heard(&reply(5, 9, STATION, menu()), SECOND).is_some());
    }

    #[test]
    fn after_a_nak_it_begins_anew() {
        let who = who(Ends::Ack);
        let mut asking = Asking::begin(&who, MAC, 1, SECOND);
        asking.heard(&reply(2, 9, STATION, menu()), SECOND);
        assert_eq!(asking.heard(&reply(6, 0, STATION, vec![]), 2 * SECOND), None);
        let Wake::Send(message) = asking.wake(2 * SECOND) else { panic!("nothing is sent") };
        assert_eq!(message.kind(), Some(Kind::Discover));
    }

    #[test]
    fn an_offer_that_does_not_say_how_to_boot_is_completed_by_a_proxy_or_not_taken() {
        let who = who(Ends::Offer);
        let mut asking = Asking::begin(&who, MAC, 1, SECOND);
        assert_eq!(asking.heard(&reply(2, 9, OTHER, vec![]), SECOND), None);
        assert!(asking.silence().to_string().ends_with("1 offers were not suitable"));
        let leased = asking.heard(&reply(2, 0, STATION, menu()), SECOND).unwrap();
        assert_eq!((leased.server, leased.tftp), (OTHER, STATION));
    }

    #[test]
    fn replies_to_others_are_not_heard() {
        let who = who(Ends::Offer);
        let mut asking = Asking::begin(&who, MAC, 1, SECOND);
        let offer = reply(2, 9, STATION, menu());
        assert_eq!(asking.heard(&Message { xid: 8, ..offer.clone() }, SECOND), None);
        assert_eq!(asking.heard(&Message { chaddr: Mac::new([4; 6]), ..offer }, SECOND), None);
    }

    #[test]
    fn the_tftp_server_is_siaddr_or_option_66_or_the_dhcp_server() {
        let mut ack = Message::request(1, MAC, vec![(54, STATION.octets().to_vec()), (1, vec![255, 255, 0, 0])]);
        let tftp = |ack: &Message| Leased::read(ack, Believes::NextServer).tftp;
        assert_eq!((tftp(&ack), Leased::read(&ack, Believes::NextServer).prefix), (STATION, 16));
        ack.options.push((66, b"192.168.5.2\0".to_vec()));
        assert_eq!(tftp(&ack), OTHER);
        ack.siaddr = Ipv4Addr::new(192, 168, 5, 3);
        assert_eq!(tftp(&ack), ack.siaddr);
        assert_eq!(Leased::read(&ack, Believes::Server).tftp, STATION);
    }
}
