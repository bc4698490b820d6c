//! The built agent at a real MQTT broker: presence over power cuts, and long work that a power cut comes between.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent};
use crate::broker::{Mosquitto, Subscriber};

fn bus(broker: &Mosquitto) -> String {
    format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port)
}

#[test]
fn m02_presence_tells_a_power_cut_from_a_stop() {
    let broker = Mosquitto::start();
    let presence = broker.subscribe("bootline/v1/st-test/state/presence");
    let mut agent = TestAgent::start(&bus(&broker));
    let here = presence.next();
    assert_eq!(here["online"], true);
    agent.kill();
    let gone = presence.next();
    assert_eq!((&gone["online"], &gone["reason"]), (&json!(false), &json!("connection_lost")));
    assert_eq!(gone["session"], here["session"]);
    agent.restart();
    let again = presence.next();
    assert_eq!(again["online"], true);
    assert_ne!(again["session"], here["session"]);
    assert!(agent.stop().success());
    let goodbye = presence.next();
    assert_eq!((&goodbye["online"], &goodbye["reason"]), (&json!(false), &json!("shutdown")));
    assert_eq!(goodbye["session"], again["session"]);
}

fn until(subscriber: &Subscriber, fits: impl Fn(&Value) -> bool) -> Value {
    std::iter::repeat_with(|| subscriber.next()).find(fits).expect("it never ends")
}

/// A server with one file: the first who asks waits for ever, and it is told that somebody asked.
fn server(body: Vec<u8>) -> (u16, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = channel();
    thread::spawn(move || {
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            if waiting.is_empty() {
                waiting.push(stream);
            } else {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
            let _ = tell.send(());
        }
    });
    (port, asked)
}

#[test]
fn long_work_is_answered_to_its_end_although_the_power_goes_in_between() {
    let broker = Mosquitto::start();
    let all = broker.subscribe("bootline/v1/st-test/#");
    let mut agent = TestAgent::start(&bus(&broker));
    // Before that nobody has subscribed to requests.
    until(&all, |said| said["online"] == true);
    let (port, asked) = server(vec![7; 256 * 1024]);
    let body = json!({
        "command_id": "fetch-4711", "correlation_id": "order-4711", "params": {"url": format!("http://127.0.0.1:{port}/a.img")},
    });
    let request = ["-V", "5", "-q", "1", "-t", "bootline/v1/st-test/cmd/image/add", "-m", &body.to_string()];
    let sent = Command::new("mosquitto_pub").args(["-p", &broker.port.to_string()]).args(request).status().unwrap();
    assert!(sent.success());
    let accepted = until(&all, |said| said["final"].is_boolean());
    assert_eq!((&accepted["status"], &accepted["final"]), (&json!("accepted"), &json!(false)));
    asked.recv_timeout(PATIENCE).expect("the file is asked for");
    agent.kill();
    agent.restart();
    // What the kill left unacknowledged comes once more.
    let last = until(&all, |said| said["final"] == true);
    assert_eq!((&last["status"], &last["final"], &last["code"]), (&json!("succeeded"), &json!(true), &json!(200)));
    assert_eq!((&last["command_id"], &last["correlation_id"]), (&json!("fetch-4711"), &json!("order-4711")));
    let image = agent.get(&format!("/api/v1/images/{}", last["result"]["job"]["image"].as_str().unwrap())).json();
    assert_eq!(image["image"]["name"], "a.img", "{image}");
    // The audit has both answers.
    let audits: Vec<Value> = agent
        .events()
        .into_iter()
        .filter(|event| event["type"] == "io.bootline.command.completed.v1")
        .map(|event| event["data"]["status"].clone())
        .collect();
    assert_eq!(audits, [json!("accepted"), json!("succeeded")]);
    agent.finish();
}
