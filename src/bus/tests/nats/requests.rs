//! Requests over NATS: to one station, to any, to all; in a crowd; with hostile addresses.

use std::collections::BTreeSet;

use async_nats::client::RequestErrorKind;
use futures_util::StreamExt;
use futures_util::future::join_all;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{LONG, Natsd, Program, World, asked, json, on_both, stored, world};
use crate::bus::Mqtt;

/// Two stations at one server.
async fn site(program: &Program) -> (World, World, Natsd) {
    let (first, natsd) = world(program).await;
    let mut second = World::named("st-02", "acme");
    second.start(Mqtt::Off, Some(natsd.settings())).await;
    let client = natsd.client().await;
    for station in ["st-01", "st-02"] {
        asked(&client, &format!("bootline.v1.{station}.cmd.station.info"), "{}").await;
    }
    (first, second, natsd)
}

on_both!(any_is_answered_by_one_station_and_all_by_each);
async fn any_is_answered_by_one_station_and_all_by_each(program: &Program) {
    let (mut first, mut second, natsd) = site(program).await;
    let client = natsd.client().await;
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    let mut answered = BTreeSet::new();
    for _ in 0..40 {
        client.publish_with_reply("bootline.v1.any.cmd.station.info", inbox.clone(), "{}".into()).await.unwrap();
    }
    for _ in 0..40 {
        let reply = json(&timeout(LONG, replies.next()).await.unwrap().unwrap().payload);
        answered.insert(reply["station"].as_str().unwrap().to_owned());
    }
    assert_eq!(answered.len(), 2, "both take their part of 40: {answered:?}");

    client.publish_with_reply("bootline.v1.all.cmd.station.info", inbox, "{}".into()).await.unwrap();
    let mut all = BTreeSet::new();
    for _ in 0..2 {
        // A second answer to one of the forty would come first.
        let reply = json(&timeout(LONG, replies.next()).await.unwrap().unwrap().payload);
        all.insert(reply["station"].as_str().unwrap().to_owned());
    }
    assert_eq!(all, BTreeSet::from(["st-01".to_owned(), "st-02".to_owned()]));

    // What changes something is not asked of all.
    let create = client.request("bootline.v1.all.cmd.project.create", "{}".into()).await.unwrap_err();
    assert_eq!(create.kind(), RequestErrorKind::NoResponders);
    first.stop().await;
    second.stop().await;
}

on_both!(more_than_the_station_can_do_at_once_is_told_to_come_again);
async fn more_than_the_station_can_do_at_once_is_told_to_come_again(program: &Program) {
    let (mut world, natsd) = world(program).await;
    let client = natsd.client().await;
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    // A disk that is slow for a while.
    let database = Connection::open(world.folder.path().join("bootline.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    let request = |n: u32| format!(r#"{{"command_id":"request-{n:04}","params":{{"project":"nobody"}}}}"#);
    let subject = "bootline.v1.st-01.cmd.project.activate";
    for n in 0..100 {
        client.publish_with_reply(subject, inbox.clone(), request(n).into()).await.unwrap();
    }
    let mut busy = Vec::new();
    while busy.len() < 36 {
        let message = timeout(LONG, replies.next()).await.unwrap().unwrap();
        let reply = json(&message.payload);
        assert_eq!(reply["code"], 429, "{reply}");
        assert_eq!(message.headers.unwrap().get("Nats-Service-Error").unwrap().as_str(), "busy");
        assert_eq!((&reply["error"]["retryable"], &reply["error"]["retry_after_s"]), (&json!(true), &json!(1)));
        busy.push(reply["command_id"].as_str().unwrap().to_owned());
    }
    database.execute_batch("ROLLBACK").unwrap();
    for _ in 0..64 {
        let reply = json(&timeout(LONG, replies.next()).await.unwrap().unwrap().payload);
        assert_eq!(reply["code"], 404, "{reply}");
    }
    // The same request again is carried out now; nothing was kept of it.
    let again = format!(r#"{{"command_id":"{}","params":{{"project":"nobody"}}}}"#, busy[0]);
    let reply = json(&asked(&client, subject, &again).await.payload);
    assert_eq!((&reply["code"], &reply["replayed"]), (&json!(404), &json!(false)));
    world.stop().await;
}

on_both!(the_same_request_again_has_one_effect);
async fn the_same_request_again_has_one_effect(program: &Program) {
    let (mut world, natsd) = world(program).await;
    world.happen(1).await;
    let client = natsd.client().await;
    let create =
        r#"{"command_id":"create-0001","correlation_id":"po-7","params":{"name":"Gateway","image":"image-1.img"}}"#;
    let subject = "bootline.v1.st-01.cmd.project.create";
    asked(&client, subject, create).await;
    let replies = join_all((0..10).map(|_| asked(&client, subject, create))).await;
    for reply in replies.iter().map(|reply| json(&reply.payload)) {
        assert_eq!((&reply["code"], &reply["replayed"]), (&json!(200), &json!(true)), "{reply}");
        assert_eq!(reply["correlation_id"], "po-7");
    }
    let other = create.replace("Gateway", "Other");
    for (body, code) in [
        (other.as_str(), 422),
        (
            r#"{"command_id":"late-00001","issued_at":"2020-01-01T00:00:00Z","params":{"name":"Late","image":"image-1.img"}}"#,
            410,
        ),
        ("garbage", 400),
        (r#"{"name":"project.delete"}"#, 400),
    ] {
        let reply = json(&asked(&client, subject, body).await.payload);
        assert_eq!(reply["code"], code, "{body}: {reply}");
    }
    let large = format!(r#"{{"params":{{"name":"{}"}}}}"#, "x".repeat(70_000));
    assert_eq!(json(&asked(&client, subject, &large).await.payload)["code"], 413);
    let list = json(&asked(&client, "bootline.v1.st-01.cmd.project.list", "{}").await.payload);
    assert_eq!(list["result"]["projects"].as_array().unwrap().len(), 1, "{list}");
    world.stop().await;
}

on_both!(a_request_whose_reply_would_forge_an_event_is_not_carried_out);
async fn a_request_whose_reply_would_forge_an_event_is_not_carried_out(program: &Program) {
    let (mut world, natsd) = world(program).await;
    world.happen(1).await;
    let client = natsd.client().await;
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    let create = |name: &str| json!({"params": {"name": name, "image": "image-1.img"}}).to_string();
    for (n, address) in
        ["bootline.v1.st-01.evt.device.dca632010203.failed", "$KV.bootline_stations.st-01", "bootline.v1.st-02.cmd.a.b"]
            .into_iter()
            .enumerate()
    {
        let body = create(&format!("Evil {n}")).into();
        client.publish_with_reply("bootline.v1.st-01.cmd.project.create", address, body).await.unwrap();
    }
    // Without any address it is done, and nothing answers.
    client.publish("bootline.v1.st-01.cmd.project.create", create("Good").into()).await.unwrap();
    let done = async {
        loop {
            let list = json(&asked(&client, "bootline.v1.st-01.cmd.project.list", "{}").await.payload);
            let names: Vec<Value> =
                list["result"]["projects"].as_array().unwrap().iter().map(|project| project["name"].clone()).collect();
            if !names.is_empty() {
                return names;
            }
        }
    };
    assert_eq!(timeout(LONG, done).await.unwrap(), ["Good"]);
    world.delivered("nats").await;
    for message in stored(&client).await {
        assert!(json(&message.payload)["specversion"] == "1.0", "{message:?}");
    }
    world.stop().await;
}
