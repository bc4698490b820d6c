//! NATS against nats-server.

use async_nats::Client;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, Message};
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::timeout;

use super::broker::Server;
use super::{LONG, Tally, World};
use crate::bus::{Mqtt, nats};

async fn world() -> (World, Server) {
    let mut world = World::new();
    let mut server = Server::nats(world.folder.path());
    server.start().await;
    world.start(Mqtt::Off, Some(settings(&server))).await;
    (world, server)
}

fn settings(server: &Server) -> nats::Settings {
    nats::Settings::plain(url(server))
}

fn url(server: &Server) -> String {
    format!("nats://127.0.0.1:{}", server.port)
}

/// Everything in the stream, in its order.
async fn stored(client: &Client) -> Vec<Message> {
    let context = jetstream::new(client.clone());
    let mut stream = context.get_stream("BOOTLINE_EVT").await.unwrap();
    let count = usize::try_from(stream.info().await.unwrap().state.messages).unwrap();
    let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(count);
    timeout(LONG, messages.map(Result::unwrap).collect()).await.unwrap()
}

/// Waits until the station answers.
async fn asked(client: &Client, subject: &str, body: &str) -> async_nats::Message {
    let asking = async {
        loop {
            match client.request(subject.to_owned(), body.to_owned().into()).await {
                Ok(answer) => return answer,
                Err(error) => assert_eq!(error.kind(), async_nats::client::RequestErrorKind::NoResponders, "{error}"),
            }
        }
    };
    timeout(LONG, asking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_structured_cloudevents_in_the_stream() {
    let (mut world, server) = world().await;
    world.happen(1).await;
    world.delivered("nats").await;
    let client = async_nats::connect(url(&server)).await.unwrap();
    let messages = stored(&client).await;
    assert_eq!(messages.len(), 1);
    let subject = format!("bootline.v1.st-01.evt.image.00000001{}.added", "0".repeat(56));
    assert_eq!(messages[0].subject.as_str(), subject);
    let headers = messages[0].headers.as_ref().unwrap();
    let event: Value = serde_json::from_slice(&messages[0].payload).unwrap();
    assert_eq!(headers.get("Content-Type").unwrap().as_str(), "application/cloudevents+json");
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), event["id"].as_str().unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_by_the_micro_service_errors_with_headers_and_body() {
    let (mut world, server) = world().await;
    let client = async_nats::connect(url(&server)).await.unwrap();
    let answer = asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    let reply: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(reply["status"], "succeeded", "{reply}");
    let answer = asked(&client, "bootline.v1.st-01.cmd.project.get", r#"{"params":{"project":"nobody"}}"#).await;
    let reply: Value = serde_json::from_slice(&answer.payload).unwrap();
    let headers = answer.headers.unwrap();
    assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "404");
    assert_eq!(headers.get("Nats-Service-Error").unwrap().as_str(), "not_found");
    assert_eq!((&reply["code"], &reply["error"]["code"]), (&Value::from(404), &Value::from("not_found")));
    let answer = asked(&client, "$SRV.INFO.bootline-station", "").await;
    let info: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(info["metadata"]["station"], "st-01");
    assert_eq!(info["endpoints"].as_array().unwrap().len(), crate::core::command::NAMES.len());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_stands_in_a_bucket_and_ends_with_a_goodbye() {
    let (mut world, server) = world().await;
    let client = async_nats::connect(url(&server)).await.unwrap();
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    let context = jetstream::new(client);
    let bucket = loop {
        if let Ok(bucket) = context.get_key_value("bootline_stations").await {
            break bucket;
        }
    };
    let mut watch = bucket.watch_with_history("st-01").await.unwrap();
    let online: Value =
        serde_json::from_slice(&timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap().value).unwrap();
    assert_eq!(online["online"], true);
    let info: Value = serde_json::from_slice(&bucket.get("st-01.info").await.unwrap().unwrap()).unwrap();
    assert_eq!(info["station"], "st-01");
    world.stop().await;
    let offline: Value =
        serde_json::from_slice(&timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap().value).unwrap();
    assert_eq!((&offline["online"], &offline["session"]), (&Value::Bool(false), &online["session"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_holds_every_event_once_and_in_order_over_five_kills_of_the_server() {
    let (mut world, mut server) = world().await;
    world.storm(&mut server, Signal::SIGKILL, "nats").await;
    let client = async_nats::connect(url(&server)).await.unwrap();
    let mut tally = Tally::default();
    for message in stored(&client).await {
        tally.note(std::str::from_utf8(&message.payload).unwrap());
    }
    assert_eq!(tally.missing(501), Vec::<u64>::new());
    assert_eq!((tally.overtaken(), tally.repeats()), (0, 0));
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_hours_late_gets_everything() {
    let mut world = World::new();
    let mut server = Server::nats(world.folder.path());
    world.start(Mqtt::Off, Some(settings(&server))).await;
    world.produce(0..300).await;
    server.start().await;
    world.delivered("nats").await;
    let client = async_nats::connect(url(&server)).await.unwrap();
    assert_eq!(stored(&client).await.len(), 300);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_goes_past_the_stream() {
    let (mut world, server) = world().await;
    let client = async_nats::connect(url(&server)).await.unwrap();
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    let mut reports = client.subscribe("bootline.v1.st-01.telemetry.device.dca632010203").await.unwrap();
    client.flush().await.unwrap();
    world.provision().await;
    let report = timeout(LONG, reports.next()).await.unwrap().unwrap();
    let report: Value = serde_json::from_slice(&report.payload).unwrap();
    assert_eq!(report["bytes"], 512);
    world.stop().await;
}
