//! Power cuts: the agent is killed at random moments of a run, its broker is stopped and started, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::agent::{PATIENCE, TestAgent, sequence};
use crate::board::FakeBoard;
use crate::broker::{Mosquitto, Subscriber};

const BOARDS: u32 = 20;
const KILLS: usize = 8;
const BROKER_STOPS: usize = 5;
const SIZE: u64 = 256 * 1024;

/// Whether there is an agent to talk to.
#[derive(Default)]
pub struct Power {
    on: Mutex<bool>,
    changed: Condvar,
}

impl Power {
    pub fn set(&self, on: bool) {
        *self.on.lock().unwrap() = on;
        self.changed.notify_all();
    }

    pub fn wait(&self) {
        let on = self.on.lock().unwrap();
        drop(self.changed.wait_timeout_while(on, PATIENCE, |on| !*on).unwrap());
    }
}

/// A device that goes on until the station has said that it is done.
pub fn persist(board: &FakeBoard, power: &Power) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < 4 * PATIENCE, "{} never got done", board.mac);
        power.wait();
        // A board reads its orders from whatever script it gets; a refusal says that it is finished.
        match board.ask(SIZE).map(|answer| answer.text()) {
            Ok(script) if script.contains("device.authorize") => return,
            Ok(script) if script.contains("TOKEN=") => {}
            _ => continue,
        }
        if board.provision(SIZE).is_ok_and(|answer| answer.status == 200) {
            return;
        }
    }
}

/// Small, seeded, printed: a run that failed can be repeated.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    pub fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

pub fn hear(subscriber: &Subscriber, heard: &mut Vec<Value>, count: usize) {
    for _ in 0..count {
        heard.push(subscriber.next());
    }
}

#[test]
fn nothing_is_lost_when_agent_and_broker_are_killed() {
    let mut dice = Dice::new();
    let mut broker = Mosquitto::start();
    let subscriber = broker.subscribe("bootline/v1/st-test/evt/#");
    let mut agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
    agent.project("Chaos", &agent.image("chaos.img", &vec![3; usize::try_from(SIZE).unwrap()]));

    let power = Arc::new(Power::default());
    power.set(true);
    let boards: Vec<_> = (0..BOARDS)
        .map(|n| {
            let (board, power) = (FakeBoard::new(agent.devices, n), Arc::clone(&power));
            thread::spawn(move || persist(&board, &power))
        })
        .collect();

    let mut heard = Vec::new();
    for round in 0..KILLS {
        hear(&subscriber, &mut heard, 1 + dice.throw(12));
        if round < BROKER_STOPS {
            broker.stop();
            if dice.throw(2) == 0 {
                broker.resume();
            }
        }
        power.set(false);
        agent.kill();
        broker.stop();
        broker.resume();
        agent.restart();
        power.set(true);
    }
    for board in boards {
        board.join().unwrap();
    }
    let journal = agent.events();
    // A repeat is allowed, a gap is not: read on until the newest has come.
    let newest = sequence(journal.last().unwrap());
    while heard.iter().map(sequence).max() != Some(newest) {
        heard.push(subscriber.next());
    }
    check(&journal, &heard, BOARDS as usize);
    let sessions = agent.get("/api/v1/sessions?limit=1000").json();
    for session in sessions["sessions"].as_array().unwrap() {
        assert!(!session["outcome"].is_null(), "a session without an outcome: {session}");
    }
    agent.finish();
}

/// The laws of delivery and of sessions, for what was heard and what is written.
pub fn check(journal: &[Value], heard: &[Value], boards: usize) {
    let by_sequence: BTreeMap<u64, &Value> = journal.iter().map(|event| (sequence(event), event)).collect();
    let mut first_heard = BTreeSet::new();
    let mut last_of: BTreeMap<&str, u64> = BTreeMap::new();
    for event in heard {
        let seq = sequence(event);
        assert_eq!(by_sequence.get(&seq), Some(&event), "what was sent stands in the journal, unchanged");
        if first_heard.insert(seq) {
            let last = last_of.entry(event["subject"].as_str().unwrap()).or_default();
            assert!(*last < seq, "event {seq} of {} came after {last}", event["subject"]);
            *last = seq;
        }
    }
    assert_eq!(first_heard.len(), journal.len(), "the subscriber has heard every sequence");

    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    let mut passed = BTreeSet::new();
    for event in journal {
        let kind = event["type"].as_str().unwrap();
        let terminal = ["provisioned", "failed", "aborted", "interrupted"]
            .iter()
            .any(|end| kind == format!("io.bootline.device.{end}.v1"));
        if terminal {
            *ends.entry(event["data"]["session"].as_str().unwrap()).or_default() += 1;
        }
        if kind.contains("provisioned") {
            passed.insert(event["data"]["mac"].as_str().unwrap());
        }
    }
    assert!(ends.values().all(|count| *count == 1), "one outcome a session: {ends:?}");
    assert_eq!(passed.len(), boards, "every device got done");
}
