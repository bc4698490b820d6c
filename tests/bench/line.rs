//! A full line: so many devices, each reporting every second, with listeners and a page open. How long a call of a device
//! takes. Figures to look at, not a gate:
//!
//! `cargo bench --bench line -- [DEVICES] [LISTENERS] [SECONDS] [page]`
//!
//! `page` opens the page in a headless Chromium, as it comes from Debian.

#![expect(clippy::unwrap_used, reason = "in a bench a surprise is a failure")]
#![expect(dead_code, reason = "the tests use more of these modules")]

#[path = "../it/agent.rs"]
mod agent;
#[path = "../it/board.rs"]
mod board;
#[path = "../it/http.rs"]
mod http;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use crate::agent::TestAgent;
use crate::board::{FakeBoard, Orders};

const SIZE: u64 = 64 << 20;
const EVERY: Duration = Duration::from_secs(1);

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u32| numbers.get(at).copied().unwrap_or(default);
    let (devices, listeners, seconds) = (number(0, 200), number(1, 50), number(2, 20));
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("Bench", &agent.image("bench.img", &vec![5; usize::try_from(SIZE).unwrap()]));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    runtime.block_on(listen(agent.operators, listeners, &heard));
    let page = std::env::args().any(|argument| argument == "page").then(|| open_page(&agent));

    let station = agent.devices;
    let lines: Vec<_> = (0..devices)
        .map(|n| {
            // Not all in the same moment, as on a line.
            let first = Instant::now() + EVERY * n / devices;
            thread::spawn(move || work(station, n, first, seconds))
        })
        .collect();
    let mut took: Vec<Duration> = lines.into_iter().flat_map(|line| line.join().unwrap()).collect();
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 1000].as_secs_f64() * 1000.0;
    println!(
        "{} calls of {devices} devices in {seconds} s, {listeners} listeners{}: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, worst {:.1} ms",
        took.len(),
        if page.is_some() { " and a page" } else { "" },
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    println!("messages heard: {}", heard.load(Ordering::Relaxed));
    if let Some(mut page) = page {
        page.kill().unwrap();
        page.wait().unwrap();
    }
    agent.finish();
}

/// A device in its script: it begins to write, and tells every second how far it is.
fn work(station: SocketAddr, n: u32, first: Instant, seconds: u32) -> Vec<Duration> {
    let board = FakeBoard::new(station, n);
    let mut took = Vec::new();
    let mut timed = |call: &dyn Fn() -> http::Answer| {
        let asked = Instant::now();
        let answer = call();
        took.push(asked.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    until(first);
    let orders = Orders::read(&timed(&|| board.ask(SIZE).unwrap()).text());
    timed(&|| board.report(&orders, "step=write&state=started").unwrap());
    let token = format!("Bearer {}", orders.value("TOKEN"));
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    for second in 1..=seconds {
        until(first + EVERY * second);
        let body = format!("step=write&bytes={}", SIZE * u64::from(second) / u64::from(seconds + 1));
        timed(&|| http::call(station, "POST", &orders.path("PROGRESS_URL"), &headers, body.as_bytes()).unwrap());
    }
    took
}

fn until(moment: Instant) {
    while Instant::now() < moment {
        thread::park_timeout(moment.saturating_duration_since(Instant::now()));
    }
}

/// Each as the page does: events, and how far the devices are.
async fn listen(operators: SocketAddr, listeners: u32, heard: &Arc<AtomicU64>) {
    for n in 0..2 * listeners {
        let stream = if n % 2 == 0 { "events" } else { "telemetry" };
        let url = format!("ws://{operators}/api/v1/{stream}/stream");
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let heard = Arc::clone(heard);
        tokio::spawn(async move {
            while let Some(Ok(_)) = socket.next().await {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Open, and done with its start, which takes all of a small machine.
fn open_page(agent: &TestAgent) -> Child {
    let page = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", agent.folder.path().join("browser").display()))
        .arg(format!("http://{}/", agent.operators))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium is installed");
    until(Instant::now() + Duration::from_secs(5));
    page
}
