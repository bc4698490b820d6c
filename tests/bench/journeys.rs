//! Journeys over loopback against the built agent: how long they take, when a subscriber of the broker hears of them, and
//! what the agent weighs before and after. Figures to look at, not a gate:
//!
//! `cargo bench --bench journeys -- [JOURNEYS] [AT_ONCE] [PAST] [PAUSE_MS] [mosquitto]`
//!
//! PAST journeys are made before and not counted. A device waits `PAUSE_MS` before its last report: without, the
//! machine is as busy as it can be. The broker is the embedded one, or a mosquitto that the bench starts.

#![expect(clippy::unwrap_used, reason = "in a bench a surprise is a failure")]
#![expect(dead_code, reason = "the tests use more of these modules")]

#[path = "../it/agent.rs"]
mod agent;
#[path = "../it/board.rs"]
mod board;
#[path = "../it/broker.rs"]
mod broker;
#[path = "../it/http.rs"]
mod http;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, MqttOptions};
use serde_json::Value;

use crate::agent::TestAgent;
use crate::board::FakeBoard;
use crate::broker::Mosquitto;

const SIZE: u64 = 64 * 1024;

/// When something happened to a device, by MAC.
type Times = HashMap<String, Instant>;

/// When the last report of each device left it, and when that was answered.
#[derive(Clone, Default)]
struct Reported {
    left: Arc<Mutex<Times>>,
    answered: Arc<Mutex<Times>>,
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u32| numbers.get(at).copied().unwrap_or(default);
    let (journeys, at_once, past) = (number(0, 1000), number(1, 20), number(2, 0));
    let pause = Duration::from_millis(number(3, 0).into());
    let mosquitto = std::env::args().any(|argument| argument == "mosquitto").then(Mosquitto::start);
    let agent = match &mosquitto {
        None => TestAgent::start("{mqtt: embedded, mqtt_listen: '127.0.0.1:0'}"),
        Some(broker) => TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port)),
    };
    let port = mosquitto.as_ref().map_or_else(|| agent.mqtt.unwrap().port(), |broker| broker.port);
    agent.project("Bench", &agent.image("bench.img", &vec![5; usize::try_from(SIZE).unwrap()]));
    println!("memory at rest: {} MiB", memory(&agent));

    drive(agent.devices, 0..past, at_once, Duration::ZERO, &Reported::default());
    let reported = Reported::default();
    let listener = listen(port, past..past + journeys);
    let start = Instant::now();
    let took = drive(agent.devices, past..past + journeys, at_once, pause, &reported);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{journeys} journeys, {at_once} at once, {SIZE} bytes each, after {past}, {pause:?} before each: {seconds:.2} s"
    );
    tell("a journey (script, image, five reports)", took);
    let heard = listener.join().unwrap();
    tell("last report leaves the device -> subscriber", since(&reported.left, &heard));
    tell("last report is answered -> subscriber", since(&reported.answered, &heard));
    println!("memory after {} journeys: {} MiB", past + journeys, memory(&agent));
    agent.finish();
}

/// Devices with these numbers, so many at once; how long each took.
fn drive(agent: SocketAddr, devices: Range<u32>, at_once: u32, pause: Duration, reported: &Reported) -> Vec<Duration> {
    let next = AtomicU32::new(devices.start);
    let work = || {
        let mut took = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= devices.end {
                return took;
            }
            let board = FakeBoard::new(agent, n);
            let begun = Instant::now();
            let last = |mac: &str| {
                thread::park_timeout(pause);
                reported.left.lock().unwrap().insert(mac.to_owned(), Instant::now());
            };
            let answer = board.provision_telling(SIZE, last).unwrap();
            reported.answered.lock().unwrap().insert(board.mac.clone(), Instant::now());
            assert_eq!(answer.status, 200, "{}", answer.text());
            took.push(begun.elapsed());
        }
    };
    thread::scope(|scope| {
        let boards: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        boards.into_iter().flat_map(|board| board.join().unwrap()).collect()
    })
}

/// What was heard before the answer was, counts as heard with it.
fn since(times: &Mutex<Times>, heard: &Times) -> Vec<Duration> {
    let times = times.lock().unwrap();
    heard.iter().map(|(mac, at)| at.saturating_duration_since(times[mac])).collect()
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(50), at(99), at(100));
}

/// Resident set, as the kernel counts it.
fn memory(agent: &TestAgent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Hears these devices get done.
fn listen(port: u16, devices: Range<u32>) -> thread::JoinHandle<Times> {
    let (ready, begun) = std::sync::mpsc::channel();
    let listener = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut options = MqttOptions::new("bench", ("127.0.0.1", port));
            options.set_max_packet_size(Some(256 * 1024));
            let (client, mut events) = AsyncClient::builder(options).capacity(16).build();
            client.subscribe("bootline/v1/st-test/evt/device/#", QoS::AtLeastOnce).await.unwrap();
            let mut heard = Times::new();
            while heard.len() < devices.len() {
                match events.poll().await.unwrap() {
                    Event::Incoming(Packet::SubAck(_)) => ready.send(()).unwrap(),
                    Event::Incoming(Packet::Publish(message)) => {
                        let body: Value = serde_json::from_slice(&message.payload).unwrap();
                        if body["type"] == "io.bootline.device.provisioned.v1" {
                            heard.insert(body["data"]["mac"].as_str().unwrap().to_owned(), Instant::now());
                        }
                    }
                    _ => {}
                }
            }
            heard
        })
    });
    begun.recv().unwrap();
    listener
}
