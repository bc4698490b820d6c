//! Listeners of the WebSocket: many at once, with filters, and one that reads nothing.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::agent::TestAgent;
use crate::board::FakeBoard;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

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
