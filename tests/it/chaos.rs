//! A line of simulated devices runs while agent, broker and the ERP's consumer are killed; in the end the consumer of the
//! guide has exactly the journal, in order. `CHAOS_JOURNEYS=5000` and the like make it a day's work (`tests/long`).

use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    done: AtomicUsize,
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
            self.done.fetch_add(1, Ordering::SeqCst);
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
        let start = Instant::now();
        let wanted = self.journeys * share / of;
        while self.done.load(Ordering::SeqCst) < wanted {
            assert!(start.elapsed() < 40 * PATIENCE, "{} of {wanted} journeys", self.done.load(Ordering::SeqCst));
            thread::yield_now();
        }
    }
}

#[test]
fn the_consumer_of_the_guide_has_exactly_the_journal_whatever_is_killed() {
    let work = Arc::new(Work {
        journeys: number("CHAOS_JOURNEYS", 200),
        devices: number("CHAOS_DEVICES", 40),
        begun: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        power: Power::default(),
    });
    let (broker_kills, agent_kills) = (number("CHAOS_BROKER_KILLS", 3), number("CHAOS_AGENT_KILLS", 2));
    let mut broker = Mosquitto::start();
    let mut agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
    let image = agent.image("chaos.img", &vec![3; usize::try_from(SIZE).unwrap()]);
    let project = json!({"name": "Chaos", "image": image, "again": "allow", "active": true});
    assert_eq!(agent.post("/api/v1/projects", &project).status, 201);
    let folder = tempfile::tempdir().unwrap();
    let mut consumer = Consumer::python(folder.path(), broker.port, &agent);
    consumer.reaches(1);

    let start = Instant::now();
    work.power.set(true);
    let devices = agent.devices;
    let line: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            thread::spawn({
                let work = Arc::clone(&work);
                move || work.go_on(devices)
            })
        })
        .collect();
    let kills = broker_kills + agent_kills;
    let said = Mutex::new(String::new());
    for kill in 0..kills {
        work.until(kill + 1, kills + 1);
        // Agents are killed evenly between the brokers; each time the consumer falls too, every other time.
        if (kill + 1) * agent_kills / kills > kill * agent_kills / kills {
            work.power.set(false);
            agent.kill();
            agent.restart();
            work.power.set(true);
        } else {
            broker.kill();
            broker.resume();
        }
        if kill % 2 == 0 {
            said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&consumer.kill());
            consumer = Consumer::python(folder.path(), broker.port, &agent);
        }
    }
    line.into_iter().for_each(|worker| worker.join().unwrap());
    let driven = start.elapsed();
    let journal = agent.events();
    let newest = sequence(journal.last().unwrap());
    consumer.reaches(newest);
    let all = start.elapsed();
    let said = said.into_inner().unwrap() + &consumer.kill();

    let (events, booked) = posted(folder.path());
    let order = |events: &[Value]| events.iter().map(sequence).collect::<Vec<_>>();
    assert_eq!(order(&events), (1..=newest).collect::<Vec<_>>(), "each event once, in order");
    assert!(events == journal, "the consumer's events are not those of the journal");
    assert_eq!(booked, provisioned(&journal), "each attempt that passed is booked once");
    assert!(booked >= work.journeys, "{booked} of {}", work.journeys);
    println!(
        "{} journeys, {newest} events, {broker_kills} brokers and {agent_kills} agents killed, {} holes filled; line {:.1} s, consumer {:.1} s",
        work.journeys,
        said.matches("hole after").count(),
        driven.as_secs_f64(),
        all.as_secs_f64(),
    );
    agent.finish();
}
