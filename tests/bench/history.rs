//! History with a million sessions: how long the questions of a factory take, and what the agent weighs. And a thousand
//! listeners: what a device waits while they listen. Figures to look at, not a gate:
//!
//! `cargo bench --bench history -- [SESSIONS] [LISTENERS]`

#![expect(clippy::unwrap_used, reason = "in a bench a surprise is a failure")]
#![expect(dead_code, reason = "the tests use more of these modules")]

#[path = "../it/agent.rs"]
mod agent;
#[path = "../it/board.rs"]
mod board;
#[path = "../it/http.rs"]
mod http;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rusqlite::Connection;

use crate::agent::TestAgent;
use crate::board::FakeBoard;

const ROUNDS: usize = 200;

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (sessions, listeners) =
        (numbers.first().copied().unwrap_or(1_000_000), numbers.get(1).copied().unwrap_or(1000));
    let mut agent = TestAgent::start("{mqtt: off}");
    agent.project("Bench", &agent.image("bench.img", &[5; 4096]));
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(4096).unwrap().status, 200);
    assert!(agent.stop().success());
    let began = Instant::now();
    fill(&agent, sessions);
    println!("{sessions} sessions made in {:.0} s", began.elapsed().as_secs_f64());
    agent.restart();

    let oldest = format!("10000000{:08x}", 2 + sessions / 3);
    for (what, path) in [
        ("first page", "/api/v1/sessions?limit=100".to_owned()),
        ("by serial", format!("/api/v1/sessions?serial={oldest}")),
        ("by project and outcome", "/api/v1/sessions?project=p3&outcome=failed".to_owned()),
        ("by board, deep in the past", "/api/v1/sessions?board=0x1&to=2024-06-01T00:00:00Z".to_owned()),
        ("text that is rare", "/api/v1/sessions?q=nowhere".to_owned()),
        ("sums of a day by hour", "/api/v1/stats?from=2024-03-01T00:00:00Z&to=2024-03-02T00:00:00Z&by=hour".to_owned()),
        ("CSV, first bytes", "/api/v1/sessions.csv".to_owned()),
    ] {
        let rounds = if what.starts_with("text") { 10 } else { ROUNDS };
        let mut took: Vec<Duration> = (0..rounds).map(|_| first_byte(agent.operators, &path)).collect();
        tell(what, &mut took);
    }
    println!("memory of the agent: {} MiB", memory(&agent));
    let all = Instant::now();
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{size_download}"]);
    let bytes = curl.arg(format!("http://{}/api/v1/sessions.csv", agent.operators)).output().unwrap().stdout;
    let seconds = all.elapsed().as_secs_f64();
    println!("CSV of all: {} bytes in {seconds:.1} s, then {} MiB", String::from_utf8_lossy(&bytes), memory(&agent));
    crowd(&agent, listeners);
}

/// Copies of the one real session, one every minute since 2023, over ten projects and four boards; every tenth failed.
fn fill(agent: &TestAgent, sessions: u32) {
    let database = Connection::open(agent.folder.path().join("data/bootline.db")).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; BEGIN;
             CREATE TEMP TABLE n AS WITH RECURSIVE c(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM c WHERE n <= {sessions}) SELECT n FROM c;
             CREATE TEMP TABLE one AS SELECT * FROM session LIMIT 1;
             INSERT INTO session(id, mac, attempt, project, image, token, started_at, outcome, ended_at, code, detail, body)
               SELECT printf('018c0000-0000-7000-8000-%012x', n), printf('0200%08x', n), 1, 'p' || (n % 10), image, token,
                 1672531200000 + n * 60000, CASE n % 10 WHEN 9 THEN 'failed' ELSE 'passed' END,
                 1672531200000 + n * 60000 + 45000, CASE n % 10 WHEN 9 THEN 'write.medium' END,
                 CASE n % 10 WHEN 9 THEN 'dd: writing: Input/output error' END,
                 json_set(body, '$.facts.jumper', CASE n % 4 WHEN 0 THEN '111' WHEN 1 THEN '0x1' WHEN 2 THEN '101' ELSE '011' END)
               FROM one, n;
             INSERT INTO device(mac, serial, serial8, seen_at, body)
               SELECT printf('0200%08x', n), printf('10000000%08x', n), printf('%08x', n), 1672531200000 + n * 60000,
                 json_set(body, '$.mac', printf('0200%08x', n), '$.serial', printf('10000000%08x', n))
               FROM (SELECT body FROM device LIMIT 1), n;
             COMMIT;"
        ))
        .unwrap();
}

/// Until the first byte of the body is here.
fn first_byte(station: SocketAddr, path: &str) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(station).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {station}\r\nConnection: close\r\n\r\n").unwrap();
    let (mut heard, mut chunk) = (Vec::new(), [0; 65536]);
    while !heard.windows(4).any(|window| window == b"\r\n\r\n") || heard.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&chunk[..read]);
    }
    assert!(heard.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&heard));
    began.elapsed()
}

fn tell(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms", at(50), at(99), at(100));
}

fn memory(agent: &TestAgent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Journeys with nobody listening, then with a crowd.
fn crowd(agent: &TestAgent, listeners: u32) {
    let mut number = 0xf000_0000;
    let mut journeys = |what: &str| {
        let mut took = Vec::new();
        for _ in 0..100 {
            number += 1;
            let began = Instant::now();
            assert_eq!(FakeBoard::new(agent.devices, number).provision(4096).unwrap().status, 200);
            took.push(began.elapsed());
        }
        tell(what, &mut took);
    };
    journeys("a journey (6 calls), nobody listens");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let heard = runtime.block_on(async {
        let mut heard = Vec::new();
        for _ in 0..listeners {
            let url = format!("ws://{}/api/v1/events/stream", agent.operators);
            let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
            heard.push(tokio::spawn(async move {
                for _ in 0..700 {
                    socket.next().await.unwrap().unwrap();
                }
            }));
        }
        heard
    });
    journeys(&format!("a journey (6 calls), {listeners} listen"));
    println!("memory of the agent: {} MiB", memory(agent));
    let began = Instant::now();
    runtime.block_on(async {
        for one in heard {
            one.await.unwrap();
        }
    });
    println!("the last listener had heard all {:.1} s after the last journey", began.elapsed().as_secs_f64());
}
