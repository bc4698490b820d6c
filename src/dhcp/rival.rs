//! Looks for other DHCP servers on the provisioning network: asks for an address as a device would, and hears who offers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::core::device::Mac;
use crate::core::observation::{Input, Observation};
use crate::dhcp::ether::{BROADCAST, Carries, Ether};
use crate::dhcp::frame;
use crate::dhcp::packet::{self, Kind, Message, Op, code};
use crate::ledger::Ledger;

/// Who looks, and from where.
pub struct Lookout {
    pub ether: Arc<Ether>,
    pub ledger: Ledger,
    pub interface: String,
    pub server: Ipv4Addr,
    pub port: u16,
    pub client_port: u16,
    /// Servers that clients were heard to choose instead of this one.
    pub chosen: mpsc::Receiver<Ipv4Addr>,
}

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(60);
/// How long an offer may take: some servers ping the address first.
const WAIT: Duration = Duration::from_secs(3);
/// Rounds without an offer before a rival is gone.
const SILENT_ROUNDS: u32 = 2;
/// Other servers that wait to be taken note of.
pub const WAITING: usize = 16;

pub const ALARM: &str = "dhcp.rival_server";

impl Lookout {
    /// Looks at once and then every minute, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut rivals = Rivals::default();
        let mut rounds = interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let mut heard = BTreeSet::new();
            tokio::select! {
                () = stop.cancelled() => return,
                offers = self.ask() => match offers {
                    Ok(offers) => heard.extend(offers),
                    Err(error) => debug!(%error, "cannot look for other dhcp servers"),
                },
            }
            while let Ok(server) = self.chosen.try_recv() {
                heard.insert(server);
            }
            if let Some(observation) = rivals.round(&heard, &self.interface)
                && let Err(error) = self.ledger.submit(Input::Observed(observation)).await
            {
                debug!(%error, "what is known of other dhcp servers is not recorded");
            }
        }
    }

    /// The others that offer an address.
    async fn ask(&self) -> io::Result<BTreeSet<Ipv4Addr>> {
        let mut servers = offers(&self.ether, &self.interface, self.port, self.client_port).await?;
        servers.remove(&self.server);
        Ok(servers)
    }
}

/// The servers that offer an address to a device nobody knows, within three seconds.
pub async fn offers(ether: &Ether, interface: &str, port: u16, client_port: u16) -> io::Result<BTreeSet<Ipv4Addr>> {
    let socket = listener(interface, client_port)?;
    let question = question(ether.mac());
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, client_port);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, port);
    if let Some(packet) = frame::packet(from, to, &question.encode()) {
        ether.send(BROADCAST, Carries::Ipv4, &packet)?;
    }
    let (end, mut servers, mut buffer) = (Instant::now() + WAIT, BTreeSet::new(), [0; 1500]);
    while let Ok(heard) = timeout_at(end, socket.recv_from(&mut buffer)).await {
        let (length, _) = heard?;
        servers.extend(offered(&buffer[..length], &question));
    }
    Ok(servers)
}

/// The MAC that the lookout asks by: one that no device has. The frame still comes from the station's own, for a switch
/// may allow no other.
pub fn stranger(station: Mac) -> Mac {
    let [_, _, _, d, e, f] = station.bytes();
    Mac::new([0x0a, 0xb0, 0x07, d, e, f])
}

fn question(station: Mac) -> Message {
    let [.., c, d, e, f] = station.bytes();
    let options =
        vec![(code::KIND, vec![Kind::Discover as u8]), (code::PARAMETERS, vec![code::SUBNET_MASK, code::ROUTER])];
    let ask = Message::request(u32::from_be_bytes([c, d, e, f]), stranger(station), options);
    Message { flags: packet::BROADCAST, ..ask }
}

/// The server whose offer this is.
fn offered(bytes: &[u8], question: &Message) -> Option<Ipv4Addr> {
    let offer = Message::parse(bytes).ok()?;
    let is_answer = offer.op == Op::Reply && offer.xid == question.xid && offer.chaddr == question.chaddr;
    offer.address(code::SERVER_ID).filter(|_| is_answer && offer.kind() == Some(Kind::Offer))
}

/// Shares the port with a client of this machine, if there is one.
fn listener(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    UdpSocket::from_std(socket.into())
}

/// The servers heard lately, and for how many rounds each has been silent.
#[derive(Default)]
struct Rivals {
    silent: BTreeMap<Ipv4Addr, u32>,
    /// An alarm may be left of the last run.
    looked: bool,
}

impl Rivals {
    fn round(&mut self, heard: &BTreeSet<Ipv4Addr>, interface: &str) -> Option<Observation> {
        for rounds in self.silent.values_mut() {
            *rounds += 1;
        }
        self.silent.extend(heard.iter().map(|server| (*server, 0)));
        self.silent.retain(|_, rounds| *rounds < SILENT_ROUNDS);
        if self.silent.is_empty() {
            // The ledger knows whether there is an alarm to clear; it is asked once it can be over.
            let over = self.looked;
            self.looked = true;
            return over.then(|| Observation::AlarmCleared { code: ALARM.to_owned() });
        }
        self.looked = true;
        let names: Vec<String> = self.silent.keys().map(ToString::to_string).collect();
        let names = names.join(", ");
        let detail = format!(
            "another dhcp server offers addresses on {interface}: {names}; a device that takes its offer does not boot from \
             here. Take it off this network, or set network.dhcp.mode to proxy so that it gives the addresses and this \
             station the boot files"
        );
        Some(Observation::AlarmRaised { code: ALARM.to_owned(), detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATION: Mac = Mac::new([0xe4, 0x5f, 1, 2, 3, 4]);
    const RIVAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    #[test]
    fn a_rival_is_told_and_forgotten_after_two_silent_rounds() {
        let mut rivals = Rivals::default();
        let (heard, nobody) = (BTreeSet::from([RIVAL]), BTreeSet::new());
        let said = rivals.round(&heard, "eth1");
        assert!(
            matches!(&said, Some(Observation::AlarmRaised { code, detail })
            if code == ALARM && detail.contains("eth1: 10.0.0.9;") && detail.contains("network.dhcp.mode")),
            "{said:?}"
        );
        assert!(matches!(rivals.round(&nobody, "eth1"), Some(Observation::AlarmRaised { .. })), "one lost packet");
        assert!(matches!(rivals.round(&nobody, "eth1"), Some(Observation::AlarmCleared { .. })));
    }

    #[test]
    fn the_first_silent_round_clears_nothing_yet() {
        let mut rivals = Rivals::default();
        assert!(rivals.round(&BTreeSet::new(), "eth1").is_none());
        assert!(matches!(rivals.round(&BTreeSet::new(), "eth1"), Some(Observation::AlarmCleared { .. })));
    }

    #[test]
    fn only_the_answer_to_our_question_names_a_rival() {
        let asked = question(STATION);
        assert!(asked.wants_broadcast() && asked.chaddr != STATION && asked.chaddr.is_unicast());
        let options = vec![(code::KIND, vec![Kind::Offer as u8]), (code::SERVER_ID, RIVAL.octets().to_vec())];
        let offer = Message { op: Op::Reply, options, ..asked.clone() };
        assert_eq!(offered(&offer.encode(), &asked), Some(RIVAL));
        assert_eq!(offered(&Message { xid: 1, ..offer.clone() }.encode(), &asked), None);
        assert_eq!(offered(&Message { chaddr: STATION, ..offer }.encode(), &asked), None);
        assert_eq!(offered(&asked.encode(), &asked), None);
        assert_eq!(offered(b"", &asked), None);
    }
}
