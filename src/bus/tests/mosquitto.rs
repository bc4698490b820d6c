//! MQTT against mosquitto. The rows of the conformance list stand in the names: m01 to m15.

mod acl;
mod lasting;
mod rivals;
mod sparkplug;
mod states;
mod tls;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::broker::{Server, Subscriber, client, file, free_port};
use super::{Tally, World};
use crate::bus::{Mqtt, commands, mqtt};
use crate::core::command::Transport;

const OWN: &str = "acme/bootline/v1/st-01";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn world(extra: &str) -> (World, Server) {
    begin(World::new(), extra).await
}

async fn begin(mut world: World, extra: &str) -> (World, Server) {
    let mut server = Server::mosquitto(world.folder.path(), extra);
    server.start().await;
    world.start(station(&server), None).await;
    (world, server)
}

fn station(server: &Server) -> Mqtt {
    Mqtt::Broker(mqtt::Settings::plain("127.0.0.1", server.port))
}

/// Waits until the station has said that it is there.
async fn online(port: u16) -> Value {
    let mut presence = Subscriber::new(port, &["-t", &format!("{OWN}/state/presence"), "-F", ">%p"]).await;
    loop {
        let said = json(&presence.message().await);
        if said["online"] == true {
            return said;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_a_station_says_what_it_can_then_that_it_is_there_then_what_happened() {
    let mut world = World::new();
    let mut server = Server::mosquitto(world.folder.path(), "");
    server.start().await;
    world.happen(1).await;
    let mut all = Subscriber::new(server.port, &["-q", "1", "-t", "acme/#", "-F", ">%t|%r|%q|%C|%P|%p"]).await;
    world.start(station(&server), None).await;
    let (info, presence, event) = (all.message().await, all.message().await, all.message().await);
    assert!(info.starts_with(&format!("{OWN}/state/info|0|1|application/json|")), "{info}");
    let info = json(info.rsplit_once("|{").map(|(_, body)| format!("{{{body}")).as_deref().unwrap());
    assert_eq!(info["station"], "st-01");
    assert_eq!(info["limits"]["event_bytes"], 65536);
    assert_eq!(info["newest_sequence"], 1);
    let first = serde_json::json!({"name": "project.create", "version": 1, "mode": "sync", "reads_only": false});
    assert_eq!(info["commands"][0], first);
    assert_eq!(info["sinks"]["mqtt"], Value::Null, "it has not sent anything yet");
    assert!(
        presence.starts_with(&format!("{OWN}/state/presence|0|1|")) && presence.contains("\"online\":true"),
        "{presence}"
    );
    let start = format!(
        "{OWN}/evt/image/{}|0|1|application/cloudevents+json; charset=utf-8|",
        "00000001".to_owned() + &"0".repeat(56)
    );
    assert!(event.starts_with(&start), "{event}");
    assert!(event.contains("type:io.bootline.image.added.v1"), "{event}");
    assert!(event.contains("sequence:00000000000000000001"), "{event}");
    world.stop().await;
    let goodbye = all.message().await;
    assert!(goodbye.contains("\"online\":false") && goodbye.contains("\"reason\":\"shutdown\""), "{goodbye}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_station_that_dies_is_reported_by_its_will_with_the_same_session() {
    let (mut world, server) = world("").await;
    let here = online(server.port).await;
    let mut presence = Subscriber::new(server.port, &["-t", &format!("{OWN}/state/presence"), "-F", ">%p"]).await;
    presence.message().await;
    world.bus.take().unwrap().abort();
    let gone = json(&presence.message().await);
    assert_eq!((&gone["online"], &gone["reason"]), (&Value::Bool(false), &Value::from("connection_lost")));
    assert_eq!((&gone["session"], &gone["boot_id"]), (&here["session"], &here["boot_id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_a_request_is_answered_where_it_asks_with_its_correlation() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let (topic, inbox) = (format!("{OWN}/cmd/station/info"), "acme/bootline/v1/_reply/erp/1");
    let asked =
        ["-V", "5", "-q", "1", "-t", &topic, "-e", inbox, "-D", "publish", "correlation-data", "abc", "-m", "{}"];
    let answer = client("mosquitto_rr", server.port, &[&asked[..], &["-F", "%t|%r|%D|%C|%p"]].concat()).await;
    assert!(answer.starts_with(&format!("{inbox}|0|abc|application/json|")), "{answer}");
    let reply = json(answer.splitn(5, '|').last().unwrap());
    assert_eq!((&reply["status"], &reply["name"]), (&Value::from("succeeded"), &Value::from("station.info")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m04_an_old_client_names_its_inbox_in_the_request_or_reads_the_usual_topic() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let mut replies = Subscriber::new(
        server.port,
        &["-q", "1", "-t", &format!("{OWN}/res/#"), "-t", "acme/bootline/v1/_reply/#", "-F", ">%t %p"],
    )
    .await;
    let topic = format!("{OWN}/cmd/project/list");
    let inbox = r#"{"command_id":"list-0001","reply_to":"acme/bootline/v1/_reply/old/7"}"#;
    for (body, at) in [("{}", format!("{OWN}/res/project/list")), (inbox, "acme/bootline/v1/_reply/old/7".to_owned())] {
        client("mosquitto_pub", server.port, &["-V", "311", "-q", "1", "-t", &topic, "-m", body]).await;
        let reply = replies.message().await;
        assert!(reply.starts_with(&format!("{at} {{")) && reply.contains("\"succeeded\""), "{reply}");
    }
    world.stop().await;
}

/// What is sent, with the status and the code of the answer.
type Wrong<'a> = (&'a [&'a str], u16, &'a str);

/// Asks for a new project in ways that are all wrong.
async fn refused(world: &World, port: u16, wrongs: &[Wrong<'_>]) {
    let res = format!("{OWN}/res/#");
    let mut replies = Subscriber::new(port, &["-q", "1", "-t", &res, "-F", ">%p"]).await;
    let topic = format!("{OWN}/cmd/project/create");
    for (arguments, status, code) in wrongs {
        let asked = [&["-V", "5", "-q", "1", "-t", &topic], *arguments].concat();
        client("mosquitto_pub", port, &asked).await;
        let reply = json(&replies.message().await);
        assert_eq!((&reply["code"], &reply["error"]["code"]), (&Value::from(*status), &Value::from(*code)), "{reply}");
    }
    let reply = commands::answer(&world.ledger, "project.list", b"{}", Transport::Rest).await;
    assert_eq!(reply.result.unwrap()["projects"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_every_wrong_request_gets_its_code_and_changes_nothing() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let huge = file(world.folder.path(), "huge.json", &vec![b' '; 64 * 1024 + 1]);
    let expired = r#"{"expires_at":"2020-01-01T00:00:00Z","params":{"name":"a","image":"b"}}"#;
    refused(
        &world,
        server.port,
        &[
            (&["-m", "garbage"], 400, "invalid_params"),
            (&["-f", &huge.display().to_string()], 413, "too_large"),
            (&["-r", "-m", "{}"], 400, "retained_request"),
            (&["-m", expired], 410, "expired"),
        ],
    )
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_reply_is_never_sent_to_a_hostile_address() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let topic = ["-m", "{}", "-D", "publish", "response-topic"];
    let neighbour = [&topic[..], &["acme/bootline/v1/st-02/cmd/device/abort"]].concat();
    let system = [&topic[..], &["$SYS/x"]].concat();
    refused(
        &world,
        server.port,
        &[
            (&neighbour, 400, "bad_reply_address"),
            (&system, 400, "bad_reply_address"),
            (&["-m", r#"{"reply_to":"acme/#"}"#], 400, "bad_reply_address"),
        ],
    )
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_the_same_request_twice_has_one_effect_and_one_answer() {
    let (mut world, server) = world("").await;
    world.happen(1).await;
    online(server.port).await;
    let mut replies = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/res/#"), "-F", ">%p"]).await;
    let topic = format!("{OWN}/cmd/project/create");
    let body = r#"{"command_id":"create-0001","params":{"name":"Gateway","image":"image-1.img"}}"#;
    let other = r#"{"command_id":"create-0001","params":{"name":"Router","image":"image-1.img"}}"#;
    let mut answers = Vec::new();
    for body in [body, body, other] {
        client("mosquitto_pub", server.port, &["-V", "5", "-q", "1", "-t", &topic, "-m", body]).await;
        answers.push(json(&replies.message().await));
    }
    assert_eq!(
        (&answers[0]["code"], &answers[0]["replayed"]),
        (&Value::from(200), &Value::Bool(false)),
        "{}",
        answers[0]
    );
    assert_eq!((&answers[1]["result"], &answers[1]["replayed"]), (&answers[0]["result"], &Value::Bool(true)));
    assert_eq!(answers[2]["code"], 422);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_in_the_broker_while_the_station_is_away() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    world.stop().await;
    let mut replies = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/res/#"), "-F", ">%p"]).await;
    client("mosquitto_pub", server.port, &["-V", "5", "-q", "1", "-t", &format!("{OWN}/cmd/station/info"), "-m", "{}"])
        .await;
    world.start(station(&server), None).await;
    assert_eq!(json(&replies.message().await)["code"], 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_broker_that_forgets_everything_still_gets_requests_to_the_station() {
    let (mut world, mut server) = world("").await;
    online(server.port).await;
    server.end(Signal::SIGKILL).await;
    std::fs::remove_file(world.folder.path().join("mosquitto/mosquitto.db")).ok();
    server.start().await;
    online(server.port).await;
    let (topic, inbox) = (format!("{OWN}/cmd/station/info"), "acme/bootline/v1/_reply/erp");
    let answer =
        client("mosquitto_rr", server.port, &["-V", "5", "-q", "1", "-t", &topic, "-e", inbox, "-m", "{}"]).await;
    assert_eq!(json(&answer)["code"], 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_an_event_larger_than_the_broker_takes_is_left_out_and_the_next_one_flows() {
    let (mut world, server) = world("max_packet_size 4000").await;
    let long = "x".repeat(3500);
    let alarm = |code: &str, detail: &str| {
        crate::core::observation::Input::Observed(crate::core::observation::Observation::AlarmRaised {
            code: code.to_owned(),
            detail: detail.to_owned(),
        })
    };
    let mut events = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/evt/#"), "-F", ">%p"]).await;
    world.ledger.submit(alarm("test.small", "small")).await.unwrap();
    world.ledger.submit(alarm("test.large", &long)).await.unwrap();
    world.ledger.submit(alarm("test.after", "small")).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let event = json(&events.message().await);
        heard.push((event["data"]["code"].as_str().map(str::to_owned), event["data"]["sequence"].as_u64()));
    }
    let code = |code: &str| (Some(code.to_owned()), None);
    assert_eq!(heard, [code("test.small"), code("test.after"), (None, Some(2))]);
    let letters = world.ledger.dead_letters("mqtt".to_owned(), 0, 10).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(letters[0].event.as_deref(), Some("station.alarm.raised"));
    world.delivered("mqtt").await;
    world.stop().await;
}

/// What a durable subscriber saw of all events while the broker was ended and started again, and how many there were.
async fn storm(signal: Signal) -> (Tally, u64) {
    let (rounds, each) = super::weather();
    let all = u64::from(rounds * each) + 1;
    let (mut world, mut server) = world("").await;
    online(server.port).await;
    let own = format!("{OWN}/evt/#");
    let durable = ["-c", "-i", "erp", "-x", "3600", "-q", "1", "-t", &own, "-F", ">%p"];
    let mut erp = Subscriber::new(server.port, &durable).await;
    let mut tally = Tally::default();
    let reading = async {
        while tally.newest() < all {
            tally.note(&erp.message().await);
        }
    };
    tokio::join!(reading, world.storm(&mut server, signal, "mqtt"));
    world.stop().await;
    (tally, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_a_durable_subscriber_sees_every_event_in_order_over_restarts_of_the_broker() {
    let (tally, all) = storm(Signal::SIGTERM).await;
    assert_eq!(tally.missing(all), Vec::<u64>::new());
    assert_eq!(tally.overtaken(), 0);
    println!("restarted: {} repeats", tally.repeats());
}

/// What mosquitto had acknowledged and not passed on when it was killed is its loss, not ours; but nothing that is new
/// comes late.
#[tokio::test(flavor = "multi_thread")]
async fn m07_no_new_event_comes_out_of_order_when_the_broker_is_killed() {
    let (tally, all) = storm(Signal::SIGKILL).await;
    assert_eq!(tally.overtaken(), 0);
    println!("killed: {} repeats, missing {:?}", tally.repeats(), tally.missing(all));
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_a_denied_topic_holds_the_line_with_an_alarm_until_the_broker_relents() {
    let folder = tempfile::tempdir().unwrap();
    let rights = format!("topic readwrite {OWN}/state/#\ntopic read {OWN}/cmd/#\ntopic read {OWN}/evt/#\n");
    let acl = file(folder.path(), "acl", rights.as_bytes());
    let (mut world, server) = world(&format!("acl_file {}", acl.display())).await;
    online(server.port).await;
    // Somebody takes events, or there is one more alarm.
    let _erp = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/evt/#")]).await;
    world.happen(1).await;
    let mut journal = world.ledger.follow(1);
    let alarm = journal.next().await.unwrap().remove(0);
    assert_eq!(alarm.name, "station.alarm.raised");
    assert!(String::from_utf8_lossy(&alarm.body).contains("bus.refused.mqtt"));
    assert_eq!(world.ledger.cursor("mqtt").await.unwrap(), 0);
    std::fs::write(&acl, format!("{rights}topic write {OWN}/evt/#\n")).unwrap();
    server.hangup();
    assert_eq!(journal.next().await.unwrap()[0].name, "station.alarm.cleared");
    world.delivered("mqtt").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_without_its_broker_stops_at_once() {
    let mut world = World::new();
    let server = Server::mosquitto(world.folder.path(), "");
    world.start(station(&server), None).await;
    world.happen(1).await;
    let start = std::time::Instant::now();
    world.stop().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_published_without_being_kept() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    world.happen(0).await;
    world.delivered("mqtt").await;
    let topic = format!("{OWN}/telemetry/#");
    let mut reports = Subscriber::new(server.port, &["-q", "1", "-t", &topic, "-F", ">%t|%q|%r|%p"]).await;
    world.provision().await;
    let report = reports.message().await;
    assert!(report.starts_with(&format!("{OWN}/telemetry/device/dca632010203|0|0|{{")), "{report}");
    assert!(report.contains("\"bytes\":512"), "{report}");
    world.stop().await;
}
