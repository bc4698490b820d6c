//! The rows N1 to N4 of the conformance tests, each under its name.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::keys::Key;
use super::{LONG, Natsd, Program, Tally, World, asked, bucket, holds, json, on_both, stored, world};
use crate::bus::{Mqtt, nats};
use crate::core::command::NAMES;

on_both!(n1_stream_dedupe_buckets_watch_and_service_as_a_client_sees_them);
async fn n1_stream_dedupe_buckets_watch_and_service_as_a_client_sees_them(program: &Program) {
    let (mut world, natsd) = world(program).await;
    world.happen(1).await;
    world.delivered("nats").await;
    let client = natsd.client().await;
    let context = jetstream::new(client.clone());

    let mut stream = context.get_stream("BOOTLINE_EVT").await.unwrap();
    let config = stream.cached_info().config.clone();
    assert_eq!(config.subjects, ["bootline.v1.*.evt.>"]);
    assert_eq!((config.max_age, config.duplicate_window), (hours(90 * 24), hours(72)));
    assert!(config.storage == StorageType::File && config.deny_delete && config.allow_direct);

    // What a station sends again after a lost acknowledgement is there once.
    let message = &stored(&client).await[0];
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().as_str());
    let again = context.publish_with_headers(message.subject.clone(), headers, message.payload.clone());
    assert!(again.await.unwrap().await.unwrap().duplicate);
    assert_eq!(stream.info().await.unwrap().state.messages, 1);

    // An ERP reads durably and acknowledges each.
    let durable = pull::Config {
        durable_name: Some("erp".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(durable).await.unwrap();
    let event = timeout(LONG, consumer.messages().await.unwrap().next()).await.unwrap().unwrap().unwrap();
    event.double_ack().await.unwrap();
    assert_eq!(json(&event.payload)["type"], "io.bootline.image.added.v1");

    for (name, history) in [("bootline_stations", 1), ("bootline_jobs", 1), ("bootline_projects", 10)] {
        let bucket = bucket(&client, name).await;
        let config = bucket.status().await.unwrap().info.config;
        assert_eq!(config.max_messages_per_subject, history, "{name}");
        assert!(config.allow_rollup && config.deny_delete && config.allow_direct, "{name}");
        // Everything that a bucket does for a client, on one made by hand.
        let revision = bucket.create("test.key", Bytes::from_static(b"1")).await.unwrap();
        assert!(bucket.create("test.key", Bytes::from_static(b"2")).await.is_err(), "{name}: compare and set");
        assert!(bucket.update("test.key", Bytes::from_static(b"3"), revision + 100).await.is_err(), "{name}");
        bucket.update("test.key", Bytes::from_static(b"4"), revision).await.unwrap();
        assert_eq!(bucket.get("test.key").await.unwrap().unwrap(), "4", "{name}");
        bucket.delete("test.key").await.unwrap();
        assert_eq!(bucket.get("test.key").await.unwrap(), None, "{name}");
        bucket.purge("test.key").await.unwrap();
    }
    let mut watch = bucket(&client, "bootline_stations").await.watch_with_history("st-01").await.unwrap();
    let presence = timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(json(&presence.value)["online"], true);
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.stop().await;
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

on_both!(n2_the_service_is_found_described_counted_and_answers_errors_with_headers);
async fn n2_the_service_is_found_described_counted_and_answers_errors_with_headers(program: &Program) {
    let (mut world, natsd) = world(program).await;
    let client = natsd.client().await;
    let answer = asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    assert_eq!(json(&answer.payload)["status"], "succeeded");

    let answer = asked(&client, "bootline.v1.st-01.cmd.project.get", r#"{"params":{"project":"nobody"}}"#).await;
    let (headers, reply) = (answer.headers.unwrap(), json(&answer.payload));
    let header = |name: &str| headers.get(name).unwrap().as_str().to_owned();
    assert_eq!((header("Nats-Service-Error-Code"), header("Nats-Service-Error")), ("404".into(), "not_found".into()));
    assert_eq!(header("Content-Type"), "application/json");
    assert_eq!((&reply["code"], &reply["error"]["code"]), (&json!(404), &json!("not_found")));

    let ping = json(&asked(&client, "$SRV.PING.bootline-station", "").await.payload);
    assert_eq!((&ping["type"], &ping["name"]), (&json!("io.nats.micro.v1.ping_response"), &json!("bootline-station")));
    let (id, version) = (ping["id"].as_str().unwrap(), ping["version"].as_str().unwrap());
    assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{version}");

    let info = json(&asked(&client, &format!("$SRV.INFO.bootline-station.{id}"), "").await.payload);
    let about = &info["metadata"];
    assert_eq!((&about["station"], &about["api"]), (&json!("st-01"), &json!("v1")));
    assert_eq!(
        (&about["epoch"], &about["rest"]),
        (&json!(world.ledger.identity().epoch), &json!("http://127.0.0.1:8080"))
    );
    let endpoints = info["endpoints"].as_array().unwrap();
    for name in NAMES {
        let own = format!("bootline.v1.st-01.cmd.{name}");
        let endpoint = endpoints.iter().find(|endpoint| endpoint["subject"] == own).unwrap();
        assert_eq!(endpoint["metadata"]["request_schema"], format!("urn:bootline:schema:command:{name}:1.0"));
        assert_eq!(endpoint["metadata"]["response_schema"], format!("urn:bootline:schema:reply:{name}:1.0"));
        let any = format!("bootline.v1.any.cmd.{name}");
        assert!(endpoints.iter().any(|endpoint| endpoint["subject"] == any && endpoint["queue_group"] == "q"));
    }
    let names: BTreeSet<&str> = endpoints.iter().map(|endpoint| endpoint["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), endpoints.len(), "each endpoint has a name of its own");

    let stats = json(&asked(&client, "$SRV.STATS.bootline-station", "").await.payload);
    let of = |name: &str| {
        let all = stats["endpoints"].as_array().unwrap();
        all.iter().find(|endpoint| endpoint["name"] == name).unwrap().clone()
    };
    let (found, missed): (Value, Value) = (of("station-info"), of("project-get"));
    assert_eq!((&found["num_requests"], &found["data"]["errors"]), (&json!(1), &json!(0)));
    assert_eq!((&missed["num_requests"], &missed["data"]["errors"]), (&json!(1), &json!(1)));
    assert_eq!(missed["data"]["newest_sequence"], world.ledger.newest());
    world.stop().await;
}

/// More than the library queues (2044) while the server is away.
const LOAD: u32 = 3000;

on_both!(n3_a_server_that_stops_under_load_blocks_nothing_and_gets_every_event_once);
async fn n3_a_server_that_stops_under_load_blocks_nothing_and_gets_every_event_once(program: &Program) {
    let (mut world, mut natsd) = world(program).await;
    asked(&natsd.client().await, "bootline.v1.st-01.cmd.station.info", "{}").await;
    tokio::join!(world.produce(2..500), async {
        world.reaches(100).await;
        natsd.server.end(Signal::SIGTERM).await;
    });
    // The line does not wait for a bus: everything happens while nobody hears it, progress too.
    timeout(LONG, world.produce(500..LOAD)).await.expect("the ledger takes it all");
    world.provision().await;
    let newest = world.ledger.newest();
    assert!(world.ledger.cursor("nats").await.unwrap() < 500, "it was cut in the midst");
    natsd.server.start().await;
    world.delivered("nats").await;
    let client = natsd.client().await;
    let mut tally = Tally::default();
    for message in stored(&client).await {
        tally.note(std::str::from_utf8(&message.payload).unwrap());
    }
    assert_eq!(tally.missing(newest), Vec::<u64>::new());
    assert_eq!((tally.overtaken(), tally.repeats()), (0, 0));
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    // A stop is as quick as ever, with the server away again.
    natsd.server.end(Signal::SIGKILL).await;
    world.happen(LOAD).await;
    world.stop().await;
}

/// The station by nkey, and an auditor who may read the stream.
fn rights(station: &Key, auditor: &Key, publish: &str, subscribe: &str) -> String {
    format!(
        "accounts {{ FAB {{ jetstream: enabled, users: [\n\
         {{ nkey: {}, permissions: {{ publish: {publish}, subscribe: {subscribe}, allow_responses: true }} }}\n\
         {{ nkey: {} }} ] }} }}",
        station.public(),
        auditor.public()
    )
}

on_both!(n4_a_denied_subject_stalls_the_line_with_an_alarm_and_heals_with_the_acl);
async fn n4_a_denied_subject_stalls_the_line_with_an_alarm_and_heals_with_the_acl(program: &Program) {
    let mut world = World::new();
    let (station, auditor) = (Key::user(), Key::user());
    let denied = rights(&station, &auditor, r#"{ allow: ">", deny: ["bootline.v1.st-01.evt.>"] }"#, r#"">""#);
    let mut natsd = Natsd::new(program, world.folder.path(), &denied);
    natsd.server.start().await;
    let login = nats::Login::Nkey(station.seed_file(world.folder.path()));
    world.start(Mqtt::Off, Some(nats::Settings { login, ..natsd.settings() })).await;
    world.produce(0..20).await;
    let detail = world.raised("bus.refused.nats").await;
    assert!(detail.contains("Permissions Violation") && detail.contains("bootline.v1.st-01.evt."), "{detail}");
    assert_eq!(world.ledger.cursor("nats").await.unwrap(), 0, "nothing is passed over");

    natsd.reload(&rights(&station, &auditor, r#"">""#, r#"">""#));
    world.cleared("bus.refused.nats").await;
    world.delivered("nats").await;
    let client = auditor.connect(&natsd).await;
    let mut tally = Tally::default();
    for message in stored(&client).await {
        tally.note(std::str::from_utf8(&message.payload).unwrap());
    }
    assert_eq!((tally.missing(20), tally.overtaken(), tally.repeats()), (Vec::new(), 0, 0));
    world.stop().await;
}

on_both!(n4_requests_that_may_not_be_heard_are_an_alarm_and_events_flow_on);
async fn n4_requests_that_may_not_be_heard_are_an_alarm_and_events_flow_on(program: &Program) {
    let mut world = World::new();
    let (station, auditor) = (Key::user(), Key::user());
    let deaf = rights(&station, &auditor, r#"">""#, r#"{ allow: ">", deny: ["bootline.v1.any.cmd.>"] }"#);
    let mut natsd = Natsd::new(program, world.folder.path(), &deaf);
    natsd.server.start().await;
    let login = nats::Login::Nkey(station.seed_file(world.folder.path()));
    let again = Duration::from_secs(1);
    world.start(Mqtt::Off, Some(nats::Settings { login, again, ..natsd.settings() })).await;
    let detail = world.raised("bus.denied.nats").await;
    assert!(detail.contains("Subscription") && detail.contains("bootline.v1.any.cmd."), "{detail}");
    world.delivered("nats").await;
    let client = auditor.connect(&natsd).await;
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    let stations = bucket(&client, "bootline_stations").await;
    holds(&stations, "st-01", |presence| presence["online"] == true).await;
    // It asks again, and what was mended is over.
    natsd.reload(&rights(&station, &auditor, r#"">""#, r#"">""#));
    world.cleared("bus.denied.nats").await;
    asked(&auditor.connect(&natsd).await, "bootline.v1.any.cmd.station.info", "{}").await;
    world.stop().await;
}
