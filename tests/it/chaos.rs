//! A line of simulated devices runs while agent, broker and the ERP's consumer are killed; in the end the consumer of the
//! guide has exactly the journal, in order. `CHAOS_JOURNEYS=5000` and the like make it a day's work (`tests/long`).

use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent, sequence};
use crate::board::FakeBoard;
use crate::broker::Mosquitto;
use crate::erp::{Consumer, posted, provisioned};
use crate::restart::Power;

const SIZE: u64 = 16 * 1024;
/// Devices that stand at the line at the same moment.
const AT_ONCE: usize = 16;

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Journeys that are still to be made, and what counts them.
struct Work {
    journeys: usize,
    devices: usize,
    begun: AtomicUsize,
    done: Mutex<usize>,
    one_more: Condvar,
    power: Power,
}

impl Work {
    /// Takes one device after the other until all journeys are made.
    fn go_on(&self, station: std::net::SocketAddr) {
        loop {
            let n = self.begun.fetch_add(1, Ordering::SeqCst);
            if n >= self.journeys {
                return;
            }
            let board = FakeBoard::new(station, u32::try_from(n % self.devices).unwrap());
            let start = Instant::now();
            while !self.journey(&board) {
                assert!(start.elapsed() < 10 * PATIENCE, "{} never got done", board.mac);
            }
            *self.done.lock().unwrap() += 1;
            self.one_more.notify_all();
        }
    }

    /// True when the station has said that it is done.
    fn journey(&self, board: &FakeBoard) -> bool {
        self.power.wait();
        match board.ask(SIZE).map(|answer| answer.text()) {
            Ok(script) if script.contains("TOKEN=") => board.provision(SIZE).is_ok_and(|answer| answer.status == 200),
            _ => false,
        }
    }

    /// Waits until a share of the journeys is done.
    fn until(&self, share: usize, of: usize) {
        let wanted = self.journeys * share / of;
        let done = self.done.lock().unwrap();
        let (done, waited) = self.one_more.wait_timeout_while(done, 40 * PATIENCE, |done| *done < wanted).unwrap();
        assert!(!waited.timed_out(), "{done} of {wanted} journeys");
    }
}

/// What the run is made of, and what may fall.
struct Scene {
    broker: Mosquitto,
    agent: TestAgent,
    folder: tempfile::TempDir,
    consumer: Option<Consumer>,
    /// What consumers that were killed have said.
    said: String,
}

impl Scene {
    fn set() -> Self {
        let broker = Mosquitto::start();
        let agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
        let image = agent.image("chaos.img", &vec![3; usize::try_from(SIZE).unwrap()]);
        let project = json!({"name": "Chaos", "image": image, "again": "allow", "active": true});
        assert_eq!(agent.post("/api/v1/projects", &project).status, 201);
        let folder = tempfile::tempdir().unwrap();
        let consumer = Consumer::python(folder.path(), broker.port, &agent);
        consumer.reaches(1);
        Self { broker, agent, folder, consumer: Some(consumer), said: String::new() }
    }

    fn kill_agent(&mut self, power: &Power) {
        power.set(false);
        self.agent.kill();
        self.agent.restart();
        power.set(true);
    }

    /// It loses its sessions, and with them what waited in them.
    fn kill_broker(&mut self) {
        self.broker.kill();
        self.broker.resume();
    }

    fn kill_consumer(&mut self) {
        self.said += &self.consumer.take().expect("it runs").kill();
        self.consumer = Some(Consumer::python(self.folder.path(), self.broker.port, &self.agent));
    }

    /// The consumer has exactly the journal; gives how many events that are.
    fn judge(mut self, journeys: usize) -> (u64, String) {
        let journal = self.agent.events();
        let newest = sequence(journal.last().unwrap());
        let consumer = self.consumer.take().expect("it runs");
        consumer.reaches(newest);
        self.said += &consumer.kill();
        let (events, booked) = posted(self.folder.path());
        let order = |events: &[Value]| events.iter().map(sequence).collect::<Vec<_>>();
        assert_eq!(order(&events), (1..=newest).collect::<Vec<_>>(), "each event once, in order");
        assert!(events == journal, "the consumer's events are not those of the journal");
        assert_eq!(booked, provisioned(&journal), "each attempt that passed is booked once");
        assert!(booked >= journeys, "{booked} of {journeys}");
        self.agent.finish();
        (newest, self.said)
    }
}

#[test]
fn the_consumer_of_the_guide_has_exactly_the_journal_whatever_is_killed() {
    let work = Arc::new(Work {
        journeys: number("CHAOS_JOURNEYS", 200),
        devices: number("CHAOS_DEVICES", 40),
        begun: AtomicUsize::new(0),
        done: Mutex::new(0),
        one_more: Condvar::new(),
        power: Power::default(),
    });
    let (brokers, agents) = (number("CHAOS_BROKER_KILLS", 3), number("CHAOS_AGENT_KILLS", 2));
    let mut scene = Scene::set();
    let (start, station) = (Instant::now(), scene.agent.devices);
    work.power.set(true);
    let at_once = (0..AT_ONCE).map(|_| Arc::clone(&work));
    let line: Vec<_> = at_once.map(|work| thread::spawn(move || work.go_on(station))).collect();
    let kills = brokers + agents;
    for kill in 0..kills {
        work.until(kill + 1, kills + 1);
        // Agents fall evenly between the brokers, and the consumer falls every other time.
        match (kill + 1) * agents / kills > kill * agents / kills {
            true => scene.kill_agent(&work.power),
            false => scene.kill_broker(),
        }
        if kill % 2 == 0 {
            scene.kill_consumer();
        }
    }
    line.into_iter().for_each(|worker| worker.join().unwrap());
    let driven = start.elapsed();
    let (events, said) = scene.judge(work.journeys);
    println!(
        "{} journeys, {events} events, {brokers} brokers and {agents} agents killed, {} holes; line {:.1} s, all {:.1} s",
        work.journeys,
        said.matches("hole after").count(),
        driven.as_secs_f64(),
        start.elapsed().as_secs_f64(),
    );
}
