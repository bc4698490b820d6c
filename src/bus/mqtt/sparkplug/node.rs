//! The edge node of Sparkplug B 3.0 that a station is: what it says when, in which order, with which numbers. Pure.
//!
//! The rules are those of the specification, chapters 4 to 6: a birth has everything and `seq` 0, data has what has
//! changed, each message has the next `seq`, the death has only the `bdSeq` of its birth.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use crate::bus::mqtt::sparkplug::payload::{Metric, Payload, Reading, Value};
use crate::core::device::Mac;
use crate::core::time::Timestamp;

const REBIRTH: &str = "Node Control/Rebirth";
const BD_SEQ: &str = "bdSeq";

/// Names and readings; the names of a node or a device never change after its birth.
pub type Readings = BTreeMap<&'static str, Reading>;

/// What is to be published, at `QoS` 0 and not retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub body: Bytes,
}

/// The topics of one node.
#[derive(Clone, Debug)]
pub struct Names {
    group: String,
    node: String,
}

impl Names {
    pub fn new(group: &str, node: &str) -> Self {
        Self { group: group.to_owned(), node: node.to_owned() }
    }

    fn node(&self, kind: &str) -> String {
        format!("spBv1.0/{}/{kind}/{}", self.group, self.node)
    }

    fn device(&self, kind: &str, mac: Mac) -> String {
        format!("{}/{mac}", self.node(kind))
    }

    pub fn death(&self) -> String {
        self.node("NDEATH")
    }

    pub fn commands(&self) -> String {
        self.node("NCMD")
    }
}

/// One session of the node: from CONNECT to its end.
#[derive(Debug)]
pub struct Node {
    names: Names,
    /// The same in the Will and in every birth of this connection.
    bd_seq: u8,
    seq: u8,
    station: Readings,
    devices: BTreeMap<Mac, Readings>,
}

impl Node {
    pub const fn new(names: Names, bd_seq: u8) -> Self {
        Self { names, bd_seq, seq: 0, station: Readings::new(), devices: BTreeMap::new() }
    }

    /// The payload of the Will, and of an orderly end: the one message without `seq`.
    pub fn death(&self, now: Timestamp) -> Bytes {
        let at = millis(now);
        let metrics = vec![Reading::Signed(self.bd_seq.into()).metric(BD_SEQ, at)];
        Payload { timestamp: Some(at), metrics, seq: None }.encode_to_vec().into()
    }

    /// The node and all of its devices, from the beginning.
    pub fn birth(&mut self, now: Timestamp) -> Vec<Message> {
        self.seq = 0;
        let mut readings = self.station.clone();
        readings.insert(BD_SEQ, Reading::Signed(self.bd_seq.into()));
        readings.insert(REBIRTH, Reading::Flag(false));
        let mut messages = vec![self.message(self.names.node("NBIRTH"), &readings, now)];
        for (mac, readings) in self.devices.clone() {
            messages.push(self.message(self.names.device("DBIRTH", mac), &readings, now));
        }
        messages
    }

    /// Takes in readings without a message: what the next birth tells.
    pub fn prepare(&mut self, station: Readings, devices: BTreeMap<Mac, Readings>) {
        self.station = station;
        self.devices = devices;
    }

    /// The station as it is now; a message if that is news.
    pub fn station(&mut self, readings: Readings, now: Timestamp) -> Option<Message> {
        let changed = changed(&self.station, &readings);
        self.station = readings;
        (!changed.is_empty()).then(|| self.message(self.names.node("NDATA"), &changed, now))
    }

    /// A device as it is now: its birth when it is new here, else what has changed.
    pub fn device(&mut self, mac: Mac, readings: Readings, now: Timestamp) -> Option<Message> {
        let Some(before) = self.devices.insert(mac, readings.clone()) else {
            return Some(self.message(self.names.device("DBIRTH", mac), &readings, now));
        };
        let changed = changed(&before, &readings);
        (!changed.is_empty()).then(|| self.message(self.names.device("DDATA", mac), &changed, now))
    }

    pub fn readings(&self, mac: Mac) -> Option<&Readings> {
        self.devices.get(&mac)
    }

    /// A device is done with, whatever came of it.
    pub fn end(&mut self, mac: Mac, now: Timestamp) -> Option<Message> {
        self.devices.remove(&mac)?;
        Some(self.message(self.names.device("DDEATH", mac), &Readings::new(), now))
    }

    fn message(&mut self, topic: String, readings: &Readings, now: Timestamp) -> Message {
        let at = millis(now);
        let mut metrics: Vec<Metric> = readings.iter().map(|(name, reading)| reading.metric(name, at)).collect();
        if !topic.contains("BIRTH/") {
            // The birth has said it.
            metrics.iter_mut().for_each(|metric| metric.datatype = None);
        }
        let payload = Payload { timestamp: Some(at), metrics, seq: Some(self.seq.into()) };
        self.seq = self.seq.wrapping_add(1);
        Message { topic, body: payload.encode_to_vec().into() }
    }
}

fn changed(before: &Readings, now: &Readings) -> Readings {
    now.iter().filter(|(name, reading)| before.get(*name) != Some(*reading)).map(|(n, r)| (*n, r.clone())).collect()
}

/// Whether a command asks the node to be born again. Nothing else is obeyed: this is an export.
pub fn wants_rebirth(body: &[u8]) -> bool {
    let asks = |payload: Payload| {
        payload
            .metrics
            .iter()
            .any(|metric| metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(Value::Boolean(true)))
    };
    Payload::decode(body).is_ok_and(asks)
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::new(Names::new("plant", "st-01"), 7)
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn mac(n: u8) -> Mac {
        Mac::new([0xdc, 0xa6, 0x32, 0, 0, n])
    }

    fn read(message: &Message) -> Payload {
        Payload::decode(message.body.clone()).unwrap()
    }

    fn step(name: &str) -> Readings {
        BTreeMap::from([("Step", Reading::Text(Some(name.to_owned()))), ("Outcome", Reading::Text(None))])
    }

    #[test]
    fn a_birth_begins_at_zero_and_has_what_its_death_has() {
        let mut node = node();
        node.prepare(
            BTreeMap::from([("Sessions/Passed", Reading::Count(3))]),
            BTreeMap::from([(mac(1), step("write"))]),
        );
        for _ in 0..2 {
            let messages = node.birth(at(5));
            let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
            assert_eq!(topics, ["spBv1.0/plant/NBIRTH/st-01", "spBv1.0/plant/DBIRTH/st-01/dca632000001"]);
            let (birth, device) = (read(&messages[0]), read(&messages[1]));
            assert_eq!((birth.seq, device.seq), (Some(0), Some(1)));
            let names: Vec<&str> = birth.metrics.iter().map(|metric| metric.name.as_deref().unwrap()).collect();
            assert_eq!(names, ["Node Control/Rebirth", "Sessions/Passed", "bdSeq"]);
            let death = Payload::decode(node.death(at(5))).unwrap();
            assert_eq!((death.seq, death.metrics.len()), (None, 1));
            assert_eq!(death.metrics[0], birth.metrics[2]);
            assert!(birth.metrics.iter().chain(&device.metrics).all(|metric| metric.datatype.is_some()));
        }
    }

    #[test]
    fn data_tells_what_has_changed_and_the_sequence_wraps() {
        let mut node = node();
        node.prepare(Readings::new(), BTreeMap::new());
        node.birth(at(0));
        let born = node.device(mac(1), step("write"), at(1)).unwrap();
        assert!(born.topic.contains("/DBIRTH/") && read(&born).seq == Some(1));
        assert_eq!(node.device(mac(1), step("write"), at(2)), None);
        let mut seqs = Vec::new();
        for n in 0..300 {
            let data = node.device(mac(1), step(&n.to_string()), at(3)).unwrap();
            assert!(data.topic.contains("/DDATA/"));
            let payload = read(&data);
            let changed: Vec<&Metric> = payload.metrics.iter().collect();
            assert_eq!((changed.len(), changed[0].datatype), (1, None), "only the step, and its type is known");
            seqs.push(payload.seq.unwrap());
        }
        assert_eq!(seqs, (0..300).map(|n| (n + 2) % 256).collect::<Vec<u64>>());
        let death = node.end(mac(1), at(4)).unwrap();
        assert!(death.topic.contains("/DDEATH/") && read(&death).metrics.is_empty());
        assert_eq!(node.end(mac(1), at(4)), None);
    }

    #[test]
    fn what_is_not_known_is_null_and_has_its_type() {
        let metric = Reading::Text(None).metric("Outcome", 1);
        assert_eq!((metric.is_null, metric.value, metric.datatype), (Some(true), None, Some(12)));
    }

    #[test]
    fn only_a_true_rebirth_is_obeyed() {
        let command = |name: &str, reading: Reading| {
            Payload { timestamp: Some(1), metrics: vec![reading.metric(name, 1)], seq: None }.encode_to_vec()
        };
        assert!(wants_rebirth(&command(REBIRTH, Reading::Flag(true))));
        assert!(!wants_rebirth(&command(REBIRTH, Reading::Flag(false))));
        assert!(!wants_rebirth(&command("Node Control/Reboot", Reading::Flag(true))));
        assert!(!wants_rebirth(b"\xff\xff\xff"));
        assert!(!wants_rebirth(b""));
    }
}
