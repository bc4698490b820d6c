//! A broker that follows a script: what real ones do seldom, late or wrong.

use std::net::SocketAddr;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Packet, PubAck, PubAckReason,
    Publish, SubAck, SubscribeReasonCode,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{LONG, World};
use crate::bus::{Mqtt, mqtt};

/// How one connection goes.
#[derive(Clone, Copy)]
struct Script {
    /// Nothing: CONNECT is never answered.
    code: Option<ConnectReturnCode>,
    receive_max: Option<u16>,
    topic_alias_max: Option<u16>,
    acks: Acks,
    subscriptions: SubscribeReasonCode,
    /// Another client takes over as soon as this one has subscribed.
    takeover: bool,
}

#[derive(Clone, Copy)]
enum Acks {
    Prompt(PubAckReason),
    /// In batches of so many, the last one first.
    Reversed(usize),
    /// A prompt broker that hangs up after so many.
    Until(usize),
    Never,
}

const POLITE: Script = Script {
    code: Some(ConnectReturnCode::Success),
    receive_max: None,
    topic_alias_max: None,
    acks: Acks::Prompt(PubAckReason::Success),
    subscriptions: SubscribeReasonCode::Success(QoS::AtLeastOnce),
    takeover: false,
};

/// What the broker saw.
#[derive(Debug, PartialEq)]
enum Heard {
    /// A connection of a client, the first is 0.
    Connect { client: String, nth: usize },
    /// An event, and how many were not acknowledged then, with itself.
    Event { nth: usize, seq: u64, on_the_way: usize },
}

struct Fake {
    port: u16,
    heard: mpsc::UnboundedReceiver<Heard>,
    _task: JoinSet<()>,
}

impl Fake {
    /// `script` says how the n-th connection of a client goes.
    async fn start(script: impl Fn(&str, usize) -> Script + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, heard) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, script, tell));
        Self { port, heard, _task: task }
    }

    async fn next(&mut self) -> Heard {
        timeout(LONG, self.heard.recv()).await.expect("the broker hears something in time").unwrap()
    }

    async fn event(&mut self) -> (usize, u64, usize) {
        loop {
            if let Heard::Event { nth, seq, on_the_way } = self.next().await {
                return (nth, seq, on_the_way);
            }
        }
    }
}

async fn accept(listener: TcpListener, script: impl Fn(&str, usize) -> Script, tell: mpsc::UnboundedSender<Heard>) {
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut seen: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut peer = Peer { stream, buffer: BytesMut::new() };
        let Some(Packet::Connect(connect, ..)) = peer.read().await else { continue };
        let count = seen.entry(connect.client_id.clone()).or_insert(0);
        let (client, nth) = (connect.client_id, *count);
        *count += 1;
        let script = script(&client, nth);
        tell.send(Heard::Connect { client, nth }).ok();
        let tell = tell.clone();
        connections.spawn(async move { peer.serve(script, nth, &tell).await });
    }
}

struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// The next packet; nothing at the end of the connection.
    async fn read(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, None) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the agent sends no MQTT: {error}"),
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn write(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        // The agent may have gone.
        self.stream.write_all(&bytes).await.ok();
    }

    async fn ack(&mut self, pkid: u16, reason: PubAckReason) {
        self.write(Packet::PubAck(PubAck { pkid, reason, properties: None })).await;
    }

    async fn serve(&mut self, script: Script, nth: usize, tell: &mpsc::UnboundedSender<Heard>) {
        let Some(code) = script.code else {
            while self.read().await.is_some() {}
            return;
        };
        let properties = granted(script);
        self.write(Packet::ConnAck(ConnAck { session_present: false, code, properties: Some(properties) })).await;
        if code != ConnectReturnCode::Success {
            return;
        }
        let mut open: Vec<u16> = Vec::new();
        let mut acked = 0;
        while let Some(packet) = self.read().await {
            match packet {
                Packet::Subscribe(subscribe) => {
                    let return_codes = vec![script.subscriptions; subscribe.filters.len()];
                    let ack = SubAck { pkid: subscribe.pkid, return_codes, properties: None };
                    self.write(Packet::SubAck(ack)).await;
                    if script.takeover {
                        let goodbye = Disconnect::new(DisconnectReasonCode::SessionTakenOver);
                        return self.write(Packet::Disconnect(goodbye)).await;
                    }
                }
                Packet::PingReq => self.write(Packet::PingResp).await,
                Packet::Publish(publish) => {
                    assert!(!publish.topic.is_empty(), "every topic is written out");
                    let Some(seq) = event(&publish) else {
                        if publish.qos == QoS::AtLeastOnce {
                            self.ack(publish.pkid, PubAckReason::Success).await;
                        }
                        continue;
                    };
                    open.push(publish.pkid);
                    tell.send(Heard::Event { nth, seq, on_the_way: open.len() }).ok();
                    match script.acks {
                        Acks::Never => {}
                        Acks::Prompt(reason) => self.ack(open.remove(0), reason).await,
                        Acks::Until(most) if acked >= most => return,
                        Acks::Until(_) => {
                            acked += 1;
                            self.ack(open.remove(0), PubAckReason::Success).await;
                        }
                        Acks::Reversed(batch) if open.len() >= batch => {
                            while let Some(pkid) = open.pop() {
                                self.ack(pkid, PubAckReason::Success).await;
                            }
                        }
                        Acks::Reversed(_) => {}
                    }
                }
                _ => {}
            }
        }
    }
}

fn granted(script: Script) -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: script.receive_max,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: script.topic_alias_max,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// The sequence of an event; nothing for other messages.
fn event(publish: &Publish) -> Option<u64> {
    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
    topic.contains("/evt/").then(|| {
        let body: Value = serde_json::from_slice(&publish.payload).unwrap();
        body["sequence"].as_str().unwrap().parse().unwrap()
    })
}

async fn world(fake: &Fake) -> World {
    let mut world = World::new();
    world.start(Mqtt::Broker(mqtt::Settings::plain("127.0.0.1", fake.port)), None).await;
    world
}

/// A script for the client of events alone.
fn for_events(script: impl Fn(usize) -> Script + Send + Sync + 'static) -> impl Fn(&str, usize) -> Script {
    move |client, nth| if client.ends_with("-evt") { script(nth) } else { POLITE }
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_no_more_is_on_the_way_than_the_broker_takes() {
    for most in [1, 3] {
        let mut fake = Fake::start(for_events(move |_| Script {
            receive_max: Some(most),
            acks: Acks::Reversed(most.into()),
            ..POLITE
        }))
        .await;
        let mut world = world(&fake).await;
        world.produce(1..31).await;
        for expected in 1..=30 {
            let (_, seq, on_the_way) = fake.event().await;
            assert_eq!(seq, expected);
            assert!(on_the_way <= most.into(), "{on_the_way} of {most}");
        }
        world.delivered("mqtt").await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_acknowledgements_out_of_order_lose_and_repeat_nothing() {
    let mut fake = Fake::start(for_events(|_| Script { acks: Acks::Reversed(4), ..POLITE })).await;
    let mut world = world(&fake).await;
    world.produce(1..41).await;
    for expected in 1..=40 {
        assert_eq!(fake.event().await.1, expected);
    }
    world.delivered("mqtt").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_broker_that_never_acknowledges_is_left_and_gets_the_same_again() {
    let mut fake =
        Fake::start(for_events(|nth| Script { acks: if nth == 0 { Acks::Never } else { POLITE.acks }, ..POLITE }))
            .await;
    let mut world = world(&fake).await;
    world.produce(1..6).await;
    for expected in 1..=5 {
        assert_eq!(fake.event().await, (0, expected, usize::try_from(expected).unwrap()));
    }
    assert_eq!(world.ledger.cursor("mqtt").await.unwrap(), 0);
    for expected in 1..=5 {
        let (nth, seq, _) = fake.event().await;
        assert_eq!((nth, seq), (1, expected));
    }
    world.delivered("mqtt").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_broker_that_hangs_up_gets_what_it_has_not_acknowledged() {
    let mut fake = Fake::start(for_events(|_| Script { acks: Acks::Until(7), ..POLITE })).await;
    let mut world = world(&fake).await;
    world.produce(1..31).await;
    let (mut newest, mut connections) = (0, std::collections::BTreeSet::new());
    while newest < 30 {
        let (nth, seq, _) = fake.event().await;
        connections.insert(nth);
        assert!(seq <= newest + 1, "{seq} came before {}", newest + 1);
        newest = newest.max(seq);
    }
    assert!(connections.len() > 3, "{connections:?}");
    world.delivered("mqtt").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_broker_that_is_slow_busy_or_overrun_is_tried_again() {
    // No CONNACK at all, 0x88, 0x89, 0x9F; then it takes us, and offers topic aliases, which we do not use.
    let mut fake = Fake::start(|_, nth| Script {
        code: match nth {
            0 => None,
            1 => Some(ConnectReturnCode::ServerUnavailable),
            2 => Some(ConnectReturnCode::ServerBusy),
            3 => Some(ConnectReturnCode::ConnectionRateExceeded),
            _ => Some(ConnectReturnCode::Success),
        },
        topic_alias_max: Some(10),
        ..POLITE
    })
    .await;
    let mut world = world(&fake).await;
    world.produce(1..6).await;
    let mut connections = Vec::new();
    loop {
        match fake.next().await {
            Heard::Connect { client, nth } => connections.push((client, nth)),
            Heard::Event { seq, .. } => {
                assert_eq!(seq, 1);
                break;
            }
        }
    }
    // Events wait until the station is announced; then each client has its four failures.
    assert_eq!(connections.len(), 10, "{connections:?}");
    assert!(connections.contains(&("st-01".to_owned(), 4)) && connections.contains(&("st-01-evt".to_owned(), 4)));
    world.delivered("mqtt").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_a_full_quota_holds_the_line_and_heals() {
    let mut fake = Fake::start(for_events(|nth| {
        let reason = if nth < 2 { PubAckReason::QuotaExceeded } else { PubAckReason::Success };
        Script { acks: Acks::Prompt(reason), ..POLITE }
    }))
    .await;
    let mut world = world(&fake).await;
    world.happen(1).await;
    // Each connection begins with the event that was not taken; the alarm stands behind it.
    let mut begins = Vec::new();
    while begins.len() < 3 {
        let (nth, seq, _) = fake.event().await;
        if nth == begins.len() {
            begins.push(seq);
        }
    }
    assert_eq!(begins, [1, 1, 1]);
    let mut journal = world.ledger.follow(1);
    let mut names = Vec::new();
    while names.len() < 2 {
        names.extend(timeout(LONG, journal.next()).await.unwrap().unwrap().into_iter().map(|event| event.name));
    }
    assert_eq!(names, ["station.alarm.raised", "station.alarm.cleared"]);
    world.delivered("mqtt").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_three_takeovers_that_the_broker_tells_of_are_a_second_station() {
    let mut fake = Fake::start(|_, _| Script { takeover: true, ..POLITE }).await;
    let mut world = world(&fake).await;
    let mut journal = world.ledger.follow(0);
    let alarm = timeout(LONG, journal.next()).await.unwrap().unwrap().remove(0);
    assert!(String::from_utf8_lossy(&alarm.body).contains("bus.duplicate_station"));
    world.stop().await;
    fake.heard.close();
    let mut connections = Vec::new();
    while let Some(heard) = fake.heard.recv().await {
        connections.push(heard);
    }
    let connect = |nth| Heard::Connect { client: "st-01".to_owned(), nth };
    assert_eq!(connections, [connect(0), connect(1), connect(2)], "then it is silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_an_alarm_and_events_still_flow() {
    let mut fake = Fake::start(|_, _| Script { subscriptions: SubscribeReasonCode::NotAuthorized, ..POLITE }).await;
    let mut world = world(&fake).await;
    let mut journal = world.ledger.follow(0);
    let alarm = timeout(LONG, journal.next()).await.unwrap().unwrap().remove(0);
    assert_eq!(alarm.name, "station.alarm.raised");
    let body = String::from_utf8_lossy(&alarm.body).into_owned();
    assert!(body.contains("bus.subscription_refused.mqtt") && body.contains("st-01/cmd/#"), "{body}");
    assert_eq!(fake.event().await.1, 1);
    world.delivered("mqtt").await;
    world.stop().await;
}
