//! The Sparkplug export as a host at mosquitto sees it, against the rules of the specification.

use prost::Message as _;

use super::*;
use crate::bus::mqtt::sparkplug::payload::{self, Payload};
use crate::bus::{Bus, Settings};

/// A message as a host gets it.
struct Seen {
    topic: String,
    qos: String,
    retain: String,
    payload: Payload,
}

impl Seen {
    async fn next(subscriber: &mut Subscriber) -> Self {
        let line = subscriber.message().await;
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().unwrap().to_owned();
        let (topic, qos, retain, hex) = (part(), part(), part(), part());
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        Self { topic, qos, retain, payload: Payload::decode(bytes.as_slice()).unwrap() }
    }

    fn is(&self, kind: &str) -> bool {
        self.topic.starts_with(&format!("spBv1.0/plant/{kind}/st-01"))
    }

    fn value(&self, name: &str) -> Option<payload::Value> {
        self.payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name))?.value.clone()
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(payload::Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

async fn host(server: &Server) -> Subscriber {
    Subscriber::new(server.port, &["-q", "1", "-t", "spBv1.0/plant/#", "-F", ">%t %q %r %x"]).await
}

async fn exporting(world: &mut World, server: &Server) {
    let settings = Settings { mqtt: station(server), sparkplug: Some("plant".to_owned()), ..Settings::default() };
    let bus = Bus::bind(settings, world.ledger.clone()).await.unwrap();
    world.stop = tokio_util::sync::CancellationToken::new();
    world.bus = Some(tokio::spawn(bus.run(world.stop.clone())));
}

/// Holds what holds for every message of one connection, in their order.
#[derive(Default)]
struct Rules {
    next: Option<u64>,
    born: std::collections::BTreeSet<String>,
}

impl Rules {
    fn check(&mut self, seen: &Seen) {
        assert_eq!(seen.retain, "0", "{}", seen.topic);
        if seen.is("NDEATH") {
            assert_eq!(seen.payload.seq, None);
            let names: Vec<_> = seen.payload.metrics.iter().map(|metric| metric.name.as_deref().unwrap()).collect();
            assert_eq!(names, ["bdSeq"]);
            self.next = None;
            return;
        }
        assert_eq!(seen.qos, "0", "{}", seen.topic);
        assert!(seen.payload.timestamp.is_some());
        assert!(seen.payload.metrics.iter().all(|metric| metric.timestamp.is_some() && metric.name.is_some()));
        let seq = seen.payload.seq.unwrap();
        if seen.is("NBIRTH") {
            assert_eq!(seq, 0);
            self.born.clear();
            assert_eq!(seen.value("Node Control/Rebirth"), Some(payload::Value::Boolean(false)));
            assert!(seen.value("bdSeq").is_some());
        } else {
            assert_eq!(Some(seq), self.next, "{} after its birth, without a gap", seen.topic);
        }
        self.next = Some((seq + 1) % 256);
        let births = seen.is("NBIRTH") || seen.is("DBIRTH");
        assert!(seen.payload.metrics.iter().all(|metric| metric.datatype.is_some() == births), "{}", seen.topic);
        let device = seen.topic.split('/').nth(4).map(str::to_owned);
        match device {
            Some(device) if seen.is("DBIRTH") => assert!(self.born.insert(device)),
            Some(device) if seen.is("DDATA") => assert!(self.born.contains(&device), "{device} has data before birth"),
            Some(device) if seen.is("DDEATH") => assert!(self.born.remove(&device)),
            _ => {}
        }
    }

    async fn until(&mut self, host: &mut Subscriber, fits: impl Fn(&Seen) -> bool) -> Seen {
        loop {
            let seen = Seen::next(host).await;
            if !seen.is("NCMD") {
                self.check(&seen);
            }
            if fits(&seen) {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparkplug_host_sees_births_data_and_deaths_in_their_order() {
    let mut world = World::new();
    let mut server = Server::mosquitto(world.folder.path(), "");
    server.start().await;
    let (mut host, mut rules) = (host(&server).await, Rules::default());
    exporting(&mut world, &server).await;
    let birth = rules.until(&mut host, |seen| seen.is("NBIRTH")).await;
    assert_eq!(birth.value("bdSeq"), Some(payload::Value::Long(0)));
    assert_eq!(birth.value("Presence/Online"), Some(payload::Value::Boolean(true)));
    for name in ["Sessions/Passed", "Sessions/Open", "Sessions/Yield", "Backlog/mqtt", "Properties/Version"] {
        assert!(birth.value(name).is_some(), "{name}");
    }

    world.provision().await;
    let born = rules.until(&mut host, |seen| seen.is("DBIRTH")).await;
    assert!(born.topic.ends_with("/dca632010203"), "{}", born.topic);
    assert_eq!(born.text("Project").as_deref(), Some("gateway"));
    // The node's data comes in between, when its second is over.
    let (mut step, mut percent, mut open) = (false, false, false);
    while !(step && percent && open) {
        let seen = rules.until(&mut host, |_| true).await;
        step |= seen.is("DDATA") && seen.text("Step").as_deref() == Some("write");
        percent |= seen.is("DDATA") && seen.value("Percent") == Some(payload::Value::Long(50));
        open |= seen.is("NDATA") && seen.value("Sessions/Open") == Some(payload::Value::Long(1));
    }

    // A host that came late asks for all of it again: the same bdSeq, and the devices after the node.
    let command = Payload {
        timestamp: Some(1),
        metrics: vec![payload::Reading::Flag(true).metric("Node Control/Rebirth", 1)],
        seq: None,
    };
    let body = file(world.folder.path(), "rebirth", &command.encode_to_vec());
    let topic = "spBv1.0/plant/NCMD/st-01";
    client("mosquitto_pub", server.port, &["-q", "0", "-t", topic, "-f", &body.display().to_string()]).await;
    let again = rules.until(&mut host, |seen| seen.is("NBIRTH")).await;
    assert_eq!(again.value("bdSeq"), Some(payload::Value::Long(0)));
    let device = rules.until(&mut host, |_| true).await;
    assert!(device.is("DBIRTH") && device.value("Percent") == Some(payload::Value::Long(50)), "{}", device.topic);

    let abort = br#"{"params":{"device":"dca632010203"}}"#;
    assert_eq!(commands::answer(&world.ledger, "device.abort", abort, Transport::Rest).await.code, 200);
    let end = rules.until(&mut host, |seen| seen.text("Outcome").is_some()).await;
    assert_eq!(end.text("Outcome").as_deref(), Some("aborted"));
    rules.until(&mut host, |seen| seen.is("DDEATH")).await;

    // An orderly stop says it itself; the next connection has the next number, also in another process.
    world.stop().await;
    let death = rules.until(&mut host, |seen| seen.is("NDEATH")).await;
    assert_eq!(death.value("bdSeq"), Some(payload::Value::Long(0)));
    exporting(&mut world, &server).await;
    let birth = rules.until(&mut host, |seen| seen.is("NBIRTH")).await;
    assert_eq!(birth.value("bdSeq"), Some(payload::Value::Long(1)));
    // And when it dies, the broker says it with the number of its birth.
    world.bus.take().unwrap().abort();
    let death = rules.until(&mut host, |seen| seen.is("NDEATH")).await;
    assert_eq!((death.value("bdSeq"), death.qos.as_str()), (Some(payload::Value::Long(1)), "1"));
}

#[tokio::test]
async fn a_sparkplug_group_is_one_level_of_a_topic() {
    for group in ["", "a/b", "a+", "#", &"x".repeat(65)] {
        let world = World::new();
        let broker = mqtt::Settings::plain("127.0.0.1", 1);
        let settings =
            Settings { mqtt: Mqtt::Broker(broker), sparkplug: Some(group.to_owned()), ..Settings::default() };
        let error = Bus::bind(settings, world.ledger.clone()).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("sparkplug group"), "{error}");
    }
}
