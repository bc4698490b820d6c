//! Listeners of the WebSocket: many at once, with filters, and one that reads nothing.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use crate::agent::{TestAgent, sequence};
use crate::board::FakeBoard;
use crate::http;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// So long may a listener take nothing, as the README says.
const CUT_OFF: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

async fn listen(agent: &TestAgent, query: &str) -> Socket {
    let url = format!("ws://{}/api/v1/events/stream{query}", agent.operators);
    tokio::time::timeout(PATIENCE, connect_async(url)).await.unwrap().unwrap().0
}

/// Reads until an event of this type comes; gives all the types that came.
async fn until(socket: &mut Socket, kind: &str) -> Vec<String> {
    let mut heard: Vec<String> = Vec::new();
    while heard.last().is_none_or(|last| last != kind) {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        match message {
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).unwrap();
                heard.push(event["type"].as_str().unwrap().replace("io.bootline.", "").replace(".v1", ""));
            }
            Message::Ping(bytes) => socket.send(Message::Pong(bytes)).await.unwrap(),
            other => panic!("{other:?}"),
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_listeners_hear_the_same_and_devices_do_not_wait() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", &[7; 4096]));
    let mut sockets = Vec::new();
    for _ in 0..300 {
        sockets.push(listen(&agent, "?kind=device").await);
    }
    let board = FakeBoard::new(agent.devices, 1);
    let listening: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| tokio::spawn(async move { until(&mut socket, "device.provisioned").await }))
        .collect();
    tokio::task::spawn_blocking(move || assert_eq!(board.provision(4096).unwrap().status, 200)).await.unwrap();
    for heard in listening {
        let heard = heard.await.unwrap();
        let expected = [
            "device.discovered",
            "device.started",
            "device.step.started",
            "device.step.completed",
            "device.step.started",
            "device.step.completed",
            "device.provisioned",
        ];
        assert_eq!(heard, expected);
    }
    agent.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_chooses_by_kind_and_id() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", &[7; 4096]));
    let boards: Vec<FakeBoard> = (1..=2).map(|n| FakeBoard::new(agent.devices, n)).collect();
    let mac = boards[1].mac.clone();
    let boots = move || boards.iter().for_each(|board| assert_eq!(board.provision(4096).unwrap().status, 200));
    tokio::task::spawn_blocking(boots).await.unwrap();
    let mut one =
        listen(&agent, &format!("?after=0&kind=device&id={mac}&filter=device.started,device.provisioned")).await;
    assert_eq!(until(&mut one, "device.provisioned").await, ["device.started", "device.provisioned"]);
    let ahead = agent.get("/api/v1/events/stream?after=9999");
    assert_eq!((ahead.status, ahead.code().as_str()), (400, "invalid_params"));
    agent.finish();
}

/// Events of some 50 kB each: more of them than the kernel holds for one who does not read.
fn much(agent: &TestAgent) {
    for n in 0..160 {
        let macs: Vec<String> = (0..100).map(|k| format!("02{n:02x}{k:02x}??????")).collect();
        let rule = json!({"project": "first", "name": "x".repeat(60), "when": {"mac": macs}});
        let rules = json!({"rules": vec![rule; 30]}).to_string();
        let set = http::call(agent.operators, "PUT", "/api/v1/rules", &[], rules.as_bytes()).unwrap();
        assert_eq!(set.status, 200, "{}", set.text());
    }
    let rules = http::call(agent.operators, "PUT", "/api/v1/rules", &[], br#"{"rules": []}"#).unwrap();
    assert_eq!(rules.status, 200, "{}", rules.text());
}

/// One that reads nothing, and for which the kernel holds little.
async fn deaf(agent: &TestAgent) -> WebSocketStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(agent.operators).await.unwrap();
    let url = format!("ws://{}/api/v1/events/stream?after=0", agent.operators);
    client_async(url, stream).await.unwrap().0
}

/// Reads on to the end: the sequences that came, and why it ended.
async fn drain(mut socket: WebSocketStream<TcpStream>) -> (Vec<u64>, CloseFrame) {
    let mut heard = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => heard.push(sequence(&serde_json::from_str(&text).unwrap())),
            Message::Close(frame) => return (heard, frame.unwrap()),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_nothing_is_cut_off_resumes_without_a_gap_and_no_device_waits_for_it() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", &[7; 4096]));
    much(&agent);
    let newest = sequence(agent.events().last().unwrap());
    // Counted from before it connects: the station counts from the first write that does not go through.
    let (begun, mut devices, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let listener = deaf(&agent).await;
    while !agent.has_said("a listener takes no events and is cut off") {
        let asked = Instant::now();
        assert_eq!(FakeBoard::new(agent.devices, devices).provision(4096).unwrap().status, 200);
        (devices, slowest) = (devices + 1, slowest.max(asked.elapsed()));
        assert!(begun.elapsed() < PATIENCE, "it is not cut off");
    }
    assert!(begun.elapsed() >= CUT_OFF, "too early: {:?}", begun.elapsed());
    // A whole journey is seven calls; none of them waited as long as the listener was waited for.
    assert!(devices >= 10 && slowest < CUT_OFF, "{devices} devices, the slowest took {slowest:?}");

    let (heard, end) = drain(listener).await;
    assert_eq!(u16::from(end.code), 4008, "{end:?}");
    let last = *heard.last().unwrap();
    assert_eq!(heard, (1..=last).collect::<Vec<_>>(), "what came is without a gap");
    assert!(last < newest, "{last} of {newest}: it was not slow");
    assert!(end.reason.contains("after="), "{end:?}");
    let mut again = listen(&agent, &format!("?after={last}")).await;
    let newest = sequence(agent.events().last().unwrap());
    for expected in last + 1..=newest {
        let message = tokio::time::timeout(PATIENCE, again.next()).await.unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(sequence(&event), expected);
    }
    agent.finish();
}
