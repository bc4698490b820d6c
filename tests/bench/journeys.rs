//! Journeys over loopback against the built agent: how long they take, when a subscriber of the embedded broker hears of
//! them, and what the agent weighs before and after. Figures to look at, not a gate:
//!
//! `cargo bench --bench journeys -- [JOURNEYS] [AT_ONCE]`

#![expect(clippy::unwrap_used, reason = "in a bench a surprise is a failure")]
#![expect(dead_code, reason = "the tests use more of these modules")]

#[path = "../it/agent.rs"]
mod agent;
#[path = "../it/board.rs"]
mod board;
#[path = "../it/http.rs"]
mod http;

use std::collections::HashMap;
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

const SIZE: u64 = 64 * 1024;

/// When the last report of a device left it, by MAC.
type Sent = Arc<Mutex<HashMap<String, Instant>>>;

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (journeys, at_once) = (numbers.first().copied().unwrap_or(1000), numbers.get(1).copied().unwrap_or(20));
    let agent = TestAgent::start("{mqtt: embedded, mqtt_listen: '127.0.0.1:0'}");
    agent.project("Bench", &agent.image("bench.img", &vec![5; usize::try_from(SIZE).unwrap()]));
    println!("memory at rest: {} MiB", memory(&agent));

    let sent = Sent::default();
    let listener = listen(agent.mqtt.unwrap().port(), journeys, Arc::clone(&sent));
    let (next, mut took) = (AtomicU32::new(0), Vec::new());
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || {
            let mut took = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= journeys {
                    return took;
                }
                let board = FakeBoard::new(agent.devices, n);
                let begun = Instant::now();
                let last = |mac: &str| {
                    sent.lock().unwrap().insert(mac.to_owned(), Instant::now());
                };
                let answer = board.provision_telling(SIZE, last).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                took.push(begun.elapsed());
            }
        };
        let boards: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        took = boards.into_iter().flat_map(|board| board.join().unwrap()).collect();
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("{journeys} journeys, {at_once} at once, {SIZE} bytes each: {seconds:.2} s");
    tell("a journey (script, image, five reports)", took);
    tell("last report -> subscriber of the broker", listener.join().unwrap());
    println!("memory after {journeys} journeys: {} MiB", memory(&agent));
    agent.finish();
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

/// Hears `count` devices get done.
fn listen(port: u16, count: u32, sent: Sent) -> thread::JoinHandle<Vec<Duration>> {
    let (ready, begun) = std::sync::mpsc::channel();
    let listener = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut options = MqttOptions::new("bench", ("127.0.0.1", port));
            options.set_max_packet_size(Some(256 * 1024));
            let (client, mut events) = AsyncClient::builder(options).capacity(16).build();
            client.subscribe("bootline/v1/st-test/evt/device/#", QoS::AtLeastOnce).await.unwrap();
            let mut latencies = Vec::new();
            while latencies.len() < count as usize {
                match events.poll().await.unwrap() {
                    Event::Incoming(Packet::SubAck(_)) => ready.send(()).unwrap(),
                    Event::Incoming(Packet::Publish(message)) => {
                        let body: Value = serde_json::from_slice(&message.payload).unwrap();
                        if body["type"] == "io.bootline.device.provisioned.v1" {
                            let left = sent.lock().unwrap()[body["data"]["mac"].as_str().unwrap()];
                            latencies.push(left.elapsed());
                        }
                    }
                    _ => {}
                }
            }
            latencies
        })
    });
    begun.recv().unwrap();
    listener
}
