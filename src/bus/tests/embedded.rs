//! MQTT against the embedded broker.

use std::net::SocketAddr;

use super::World;
use super::broker::{Subscriber, client};
use crate::bus::{Mqtt, embedded};

const OWN: &str = "acme/bootline/v1/st-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_needs_no_other_broker() {
    let mut world = World::new();
    let folder = world.folder.path().join("mqtt");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let port = world.start(Mqtt::Embedded(embedded::Settings { listen, folder }), None).await.unwrap().port();
    let mut all = Subscriber::new(port, &["-q", "1", "-t", "acme/#", "-F", ">%t %p"]).await;
    let mut presence = String::new();
    while !presence.contains("\"online\":true") {
        presence = all.message().await;
    }
    world.happen(1).await;
    while !all.message().await.starts_with(&format!("{OWN}/evt/image/")) {}
    let (topic, inbox) = (format!("{OWN}/cmd/station/info"), "acme/bootline/v1/_reply/erp");
    let asked = [
        "-V",
        "5",
        "-q",
        "1",
        "-t",
        &topic,
        "-e",
        inbox,
        "-D",
        "publish",
        "correlation-data",
        "abc",
        "-m",
        "{}",
        "-F",
        "%D %p",
    ];
    let answer = client("mosquitto_rr", port, &asked).await;
    assert!(answer.starts_with("abc {") && answer.contains("\"succeeded\""), "{answer}");
    world.delivered("mqtt").await;
    world.stop().await;
}
