//! The bus against real brokers: private mosquitto and nats-server processes on free ports in temporary folders, with
//! a real ledger behind it.

mod broker;
#[cfg(feature = "embedded-broker")]
mod embedded;
mod fake;
mod mosquitto;
mod nats;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::broker::Server;
use crate::bus::{Bus, Fault, Mqtt, Settings, commands};
use crate::core::address::Pool;
use crate::core::command::Transport;
use crate::core::device::{Facts, Mac, Serial};
use crate::core::floor;
use crate::core::image::{Compression, Digest, Image, Survey};
use crate::core::observation::{Input, Observation, Report, Reported, ScriptAsk, Vitals};
use crate::core::plan::SessionId;
use crate::core::session::StepName;
use crate::core::time::Timestamp;
use crate::core::view::Answer;
use crate::ledger::{Clock, Ledger, Receipt};

/// Longer than anything here takes, on a machine that does much else.
const LONG: Duration = Duration::from_secs(60);

/// A ledger with a bus, in this process.
struct World {
    folder: TempDir,
    ledger: Ledger,
    stop: CancellationToken,
    bus: Option<JoinHandle<Result<(), Fault>>>,
}

impl World {
    fn new() -> Self {
        Self::named("st-01", "acme")
    }

    fn named(station: &str, root: &str) -> Self {
        Self::over(tempfile::tempdir().unwrap(), station, root)
    }

    /// On what is in the folder already.
    fn over(folder: TempDir, station: &str, root: &str) -> Self {
        let settings = floor::Settings {
            station: station.to_owned(),
            version: "0.1.0".to_owned(),
            pool: Pool {
                server: Ipv4Addr::new(10, 0, 0, 1),
                first: Ipv4Addr::new(10, 0, 0, 2),
                last: Ipv4Addr::new(10, 0, 0, 200),
                lease: Duration::from_secs(3600),
                reservations: BTreeMap::new(),
            },
            max_attempts: 3,
            deadlines: floor::Deadlines::default(),
            line: crate::core::slot::Line::default(),
        };
        let path = folder.path().join("bootline.db");
        let (ledger, _) = Ledger::open(&path, root, settings, Clock::default()).unwrap();
        let ledger = ledger.with_bus_role(crate::core::role::Role::Admin);
        Self { folder, ledger, stop: CancellationToken::new(), bus: None }
    }

    /// Starts the bus; gives the address of the embedded broker.
    async fn start(&mut self, mqtt: Mqtt, nats: Option<crate::bus::nats::Settings>) -> Option<std::net::SocketAddr> {
        let settings = Settings { rest: Some("http://127.0.0.1:8080".to_owned()), mqtt, nats, ..Settings::default() };
        let bus = Bus::bind(settings, self.ledger.clone()).await.unwrap();
        self.observe(Observation::SinksNamed { names: bus.sinks() }).await;
        let address = bus.broker();
        self.stop = CancellationToken::new();
        self.bus = Some(tokio::spawn(bus.run(self.stop.clone())));
        address
    }

    /// Stops the bus in good order.
    async fn stop(&mut self) {
        self.stop.cancel();
        let bus = self.bus.take().unwrap();
        timeout(LONG, bus).await.unwrap().unwrap().unwrap();
    }

    /// Lets something happen that leaves one event.
    async fn happen(&self, n: u32) {
        self.arrive(n, format!("image-{n}.img")).await;
    }

    /// An image with this name.
    async fn arrive(&self, n: u32, name: String) {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        let image = Image {
            id: Digest::new(digest),
            name,
            size_bytes: 1024,
            compression: Compression::Raw,
            raw_sha256: Digest::new(digest),
            raw_size_bytes: 1024,
            survey: Survey::default(),
            added_at: Timestamp::from_millis(0),
        };
        assert_eq!(self.observe(Observation::ImageIngested(image)).await.events.len(), 1);
    }

    /// Begins a session on one device and writes a few bytes on it.
    async fn provision(&self) {
        self.happen(1).await;
        let create = br#"{"params":{"name":"Gateway","image":"image-1.img","active":true}}"#;
        let reply = commands::answer(&self.ledger, "project.create", create, Transport::Rest).await;
        assert_eq!(reply.code, 200, "{reply:?}");
        let ask = ScriptAsk {
            serial: Serial(1),
            mac: Some(Mac::new([0xdc, 0xa6, 0x32, 1, 2, 3])),
            address: Ipv4Addr::new(10, 0, 0, 2),
            facts: Facts { storage_sectors: Some(1000), ..Facts::default() },
            fresh_session: SessionId(Uuid::now_v7()),
            fresh_token: "token".parse().unwrap(),
        };
        let receipt = self.observe(Observation::ScriptAsked(Box::new(ask))).await;
        let Answer::Session(session) = receipt.answer else { panic!("{:?}", receipt.answer) };
        let (session, token, step) = (session.id, session.token.clone(), StepName::Write);
        let what = Reported::StepStarted { step };
        self.observe(Observation::Reported(Report { session, token: token.clone(), what, vitals: Vitals::default() }))
            .await;
        self.observe(Observation::Progressed { session, token, step, bytes: 512 }).await;
    }

    async fn observe(&self, observation: Observation) -> Receipt {
        self.ledger.submit(Input::Observed(observation)).await.unwrap()
    }

    /// Lets many things happen, ten at a time, as fast as the ledger takes them.
    async fn produce(&self, numbers: Range<u32>) {
        stream::iter(numbers).for_each_concurrent(10, |n| self.happen(n)).await;
    }

    /// Several times many events, each time with the broker ended in their midst; then one more event, after which
    /// nothing breaks.
    async fn storm(&self, server: &mut Server, signal: Signal, sink: &str) {
        let (rounds, each) = weather();
        for round in 0..rounds {
            let first = round * each;
            tokio::join!(self.produce(first..first + each), async {
                self.reaches(u64::from(first) + 30).await;
                server.end(signal).await;
                server.start().await;
            });
            // Not at once again: mosquitto forgets a SIGTERM that comes just after its start.
            self.delivered(sink).await;
        }
        self.happen(rounds * each).await;
        self.delivered(sink).await;
    }

    /// Waits for an alarm; gives what it says.
    async fn raised(&self, alarm: &str) -> String {
        self.alarm("station.alarm.raised", alarm).await["detail"].as_str().unwrap().to_owned()
    }

    /// Waits until an alarm is over.
    async fn cleared(&self, alarm: &str) {
        self.alarm("station.alarm.cleared", alarm).await;
    }

    async fn alarm(&self, name: &str, code: &str) -> Value {
        let mut follower = self.ledger.follow(0);
        let found = async {
            loop {
                for event in follower.next().await.unwrap().into_iter().filter(|event| event.name == name) {
                    let body: Value = serde_json::from_slice(&event.body).unwrap();
                    if body["data"]["code"] == code {
                        return body["data"].clone();
                    }
                }
            }
        };
        timeout(LONG, found).await.unwrap_or_else(|_| panic!("{name} {code} does not come"))
    }

    /// Waits until the journal holds so many events.
    async fn reaches(&self, newest: u64) {
        let mut follower = self.ledger.follow(newest - 1);
        timeout(LONG, follower.next()).await.unwrap().unwrap();
    }

    /// Waits until a sink has acknowledged everything, and the ledger knows it.
    async fn delivered(&self, sink: &str) {
        let all = async {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            while self.ledger.cursor(sink).await.unwrap() < self.ledger.newest() {
                beat.tick().await;
            }
        };
        timeout(LONG, all).await.expect("everything is delivered in the end");
    }
}

/// What takes minutes runs where it is asked for.
fn is_long() -> bool {
    std::env::var_os("BOOTLINE_LONG").is_some()
}

/// How often a broker is ended, and among how many events each time.
fn weather() -> (u32, u32) {
    if is_long() { (20, 250) } else { (5, 100) }
}

/// What a consumer saw of the sequence.
#[derive(Default)]
struct Tally {
    seen: Vec<u64>,
}

impl Tally {
    fn note(&mut self, body: &str) {
        let event: Value = serde_json::from_str(body).unwrap();
        self.seen.push(event["sequence"].as_str().unwrap().parse().unwrap());
    }

    fn newest(&self) -> u64 {
        self.seen.iter().copied().max().unwrap_or(0)
    }

    /// How many were seen again.
    fn repeats(&self) -> usize {
        let mut unique = self.seen.clone();
        unique.sort_unstable();
        unique.dedup();
        self.seen.len() - unique.len()
    }

    /// Which of `1..=newest` were never seen.
    fn missing(&self, newest: u64) -> Vec<u64> {
        (1..=newest).filter(|seq| !self.seen.contains(seq)).collect()
    }

    /// How often an event that was new came after a later one.
    fn overtaken(&self) -> usize {
        let mut newest = 0;
        let mut seen = std::collections::BTreeSet::new();
        self.seen
            .iter()
            .filter(|&&seq| {
                let is_late = seen.insert(seq) && seq < newest;
                newest = newest.max(seq);
                is_late
            })
            .count()
    }
}
