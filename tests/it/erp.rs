//! The worked examples of the integrator's guide, as an ERP would run them: the consumers are killed, the broker loses
//! messages, and what they have in the end is exactly the journal.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent, lines_of, sequence};
use crate::board::FakeBoard;
use crate::broker::Mosquitto;
use crate::contract::folder;

const SIZE: u64 = 4096;

fn example(name: &str) -> PathBuf {
    folder().join("examples/erp").join(name)
}

/// A consumer that runs; each event that it has on disk is a line `took SEQUENCE`.
pub struct Consumer {
    child: Child,
    lines: Receiver<String>,
    said: Option<thread::JoinHandle<String>>,
}

impl Consumer {
    /// `schemas/examples/erp/consumer.py` with its database in a folder.
    pub fn python(folder: &Path, broker: u16, agent: &TestAgent) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(example("consumer.py")).args([
            "--simulated",
            "--client-id",
            "erp-python",
            "--port",
            &broker.to_string(),
        ]);
        command
            .args(["--rest", &format!("http://{}", agent.operators)])
            .arg("--database")
            .arg(folder.join("erp.sqlite"));
        Self::run(command)
    }

    fn shell(folder: &Path, broker: u16, agent: &TestAgent) -> Self {
        let mut command = shell(broker, agent);
        command.arg("listen").arg(folder.join("inbox"));
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("python3 and a shell are installed");
        let lines = lines_of(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let said = thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines, said: Some(said) }
    }

    /// Waits until it has so many events behind it.
    pub fn reaches(&self, wanted: u64) {
        while self.next() < wanted {}
    }

    /// The next event that it has on disk.
    pub fn next(&self) -> u64 {
        let line = self.lines.recv_timeout(4 * PATIENCE).expect("the consumer goes on");
        line.strip_prefix("took ").and_then(|rest| rest.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }

    fn signal(&self, signal: Signal) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal);
    }

    /// No farewell; gives what it said of holes and the like.
    pub fn kill(mut self) -> String {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        self.said.take().unwrap().join().unwrap()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn shell(broker: u16, agent: &TestAgent) -> Command {
    let mut command = Command::new("sh");
    command.arg(example("erp.sh")).env("PORT", broker.to_string()).env("STATION", "st-test");
    command.env("REST", format!("http://{}", agent.operators));
    command
}

/// What the Python consumer has: events in the order in which they were posted, and how many attempts it has booked.
pub fn posted(folder: &Path) -> (Vec<Value>, usize) {
    let db = rusqlite::Connection::open(folder.join("erp.sqlite")).unwrap();
    let mut statement = db.prepare("SELECT body FROM inbox ORDER BY rowid").unwrap();
    let bodies = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let events = bodies.map(|body| serde_json::from_str(&body.unwrap()).unwrap()).collect();
    let booked: i64 = db.query_row("SELECT count(*) FROM produced", [], |row| row.get(0)).unwrap();
    (events, usize::try_from(booked).unwrap())
}

pub fn provisioned(journal: &[Value]) -> usize {
    journal.iter().filter(|event| event["type"] == "io.bootline.device.provisioned.v1").count()
}

fn line(agent: &TestAgent) {
    let image = agent.image("a.img", &[7; 4096]);
    let project = json!({"name": "Line", "image": image, "again": "allow", "active": true});
    assert_eq!(agent.post("/api/v1/projects", &project).status, 201);
}

fn provision(devices: SocketAddr, boards: std::ops::Range<u32>) {
    for n in boards {
        assert_eq!(FakeBoard::new(devices, n).provision(SIZE).unwrap().status, 200);
    }
}

fn newest(agent: &TestAgent) -> u64 {
    agent.get("/api/v1/events?after=0&limit=1").json()["newest"].as_u64().unwrap()
}

/// Kills it in the middle of a run, lets the broker drop what does not fit into its queue, and starts it again.
fn ordeal(broker: &Mosquitto, agent: &TestAgent, start: impl Fn() -> Consumer) -> String {
    let consumer = start();
    provision(agent.devices, 1..4);
    consumer.reaches(newest(agent));
    let (mut said, devices) = (String::new(), agent.devices);
    thread::scope(|scope| {
        let boards = scope.spawn(move || provision(devices, 4..10));
        let before = consumer.next();
        consumer.reaches(before + 5);
        said += &consumer.kill();
        boards.join().unwrap();
    });
    provision(agent.devices, 10..20);
    let consumer = start();
    consumer.reaches(newest(agent));
    // It stands still while more comes than fits: then there is a hole in front of it.
    let witness = broker.subscribe("bootline/v1/+/evt/#");
    let before = newest(agent);
    consumer.signal(Signal::SIGSTOP);
    provision(agent.devices, 20..35);
    // The broker has had them: 20 are on the way to the consumer, 40 wait, the others are dropped.
    while sequence(&witness.next()) < before + 90 {}
    consumer.signal(Signal::SIGCONT);
    consumer.reaches(before + 30);
    provision(agent.devices, 35..37);
    consumer.reaches(newest(agent));
    said + &consumer.kill()
}

#[test]
fn the_python_consumer_has_exactly_the_journal_though_it_was_killed_and_the_broker_dropped_half() {
    let broker = Mosquitto::start_holding(40);
    let agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
    line(&agent);
    let folder = tempfile::tempdir().unwrap();
    let said = ordeal(&broker, &agent, || Consumer::python(folder.path(), broker.port, &agent));
    assert!(said.contains("hole after"), "the broker has dropped nothing: {said}");
    let journal = agent.events();
    let (events, booked) = posted(folder.path());
    assert_eq!(events, journal, "each event once, in order");
    assert_eq!((booked, provisioned(&journal)), (36, 36), "each attempt is booked once");
    agent.finish();
}

#[test]
fn the_shell_consumer_has_exactly_the_journal_though_it_was_killed_and_the_broker_dropped_half() {
    let broker = Mosquitto::start_holding(40);
    let agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
    line(&agent);
    let folder = tempfile::tempdir().unwrap();
    let said = ordeal(&broker, &agent, || Consumer::shell(folder.path(), broker.port, &agent));
    assert!(said.contains("hole after"), "the broker has dropped nothing: {said}");
    let inbox = std::fs::read_to_string(folder.path().join("inbox")).unwrap();
    let events: Vec<Value> = inbox.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences = |events: &[Value]| events.iter().map(sequence).collect::<Vec<_>>();
    let journal = agent.events();
    assert_eq!(sequences(&events), sequences(&journal));
    assert_eq!(events, journal);
    agent.finish();
}

#[test]
fn a_command_from_the_shell_is_answered_and_done_once() {
    let broker = Mosquitto::start();
    let agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
    let image = agent.image("a.img", &[7; 4096]);
    let ask = |name: &str, params: &Value, id: &str| {
        let output = shell(broker.port, &agent).arg("ask").arg(name).arg(params.to_string()).arg(id).output().unwrap();
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.success(), reply)
    };
    let params = json!({"name": "Gateway", "image": image});
    for replayed in [false, true] {
        let (done, reply) = ask("project.create", &params, "order-4711-1");
        assert!(done, "{reply}");
        assert_eq!((&reply["status"], &reply["replayed"]), (&json!("succeeded"), &json!(replayed)));
    }
    let (done, reply) = ask("project.get", &json!({"project": "nowhere"}), "order-4711-2");
    assert_eq!((done, &reply["error"]["code"]), (false, &json!("not_found")));
    assert_eq!(agent.get("/api/v1/projects").json()["projects"].as_array().unwrap().len(), 1);
    agent.finish();
}
