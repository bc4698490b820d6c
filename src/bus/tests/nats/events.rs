//! What flows out over NATS, and what a server that fails does to it.

use async_nats::jetstream;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::timeout;

use super::{LONG, Natsd, Program, Tally, World, asked, bucket, holds, json, on_both, stored, world};
use crate::bus::{Mqtt, commands};
use crate::core::command::Transport;

on_both!(events_are_structured_cloudevents_in_the_stream);
async fn events_are_structured_cloudevents_in_the_stream(program: &Program) {
    let (mut world, natsd) = world(program).await;
    world.happen(1).await;
    world.delivered("nats").await;
    let messages = stored(&natsd.client().await).await;
    assert_eq!(messages.len(), 1);
    let subject = format!("bootline.v1.st-01.evt.image.00000001{}.added", "0".repeat(56));
    assert_eq!(messages[0].subject.as_str(), subject);
    let headers = messages[0].headers.as_ref().unwrap();
    let event = json(&messages[0].payload);
    assert_eq!(headers.get("Content-Type").unwrap().as_str(), "application/cloudevents+json");
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), event["id"].as_str().unwrap());
    world.stop().await;
}

on_both!(presence_stands_in_a_bucket_and_ends_with_a_goodbye);
async fn presence_stands_in_a_bucket_and_ends_with_a_goodbye(program: &Program) {
    let (mut world, natsd) = world(program).await;
    let client = natsd.client().await;
    let stations = bucket(&client, "bootline_stations").await;
    let online = holds(&stations, "st-01", |presence| presence["online"] == true).await;
    let info = holds(&stations, "st-01.info", |_| true).await;
    assert_eq!(info["station"], "st-01");
    world.stop().await;
    let offline = holds(&stations, "st-01", |presence| presence["online"] == false).await;
    assert_eq!((&offline["session"], &offline["reason"]), (&online["session"], &json!("shutdown")));
}

on_both!(a_server_that_was_away_hears_at_once_that_the_station_is_there);
async fn a_server_that_was_away_hears_at_once_that_the_station_is_there(program: &Program) {
    let (mut world, mut natsd) = world(program).await;
    let stations = bucket(&natsd.client().await, "bootline_stations").await;
    let first = holds(&stations, "st-01", |presence| presence["online"] == true).await;
    natsd.server.end(Signal::SIGKILL).await;
    natsd.server.start().await;
    let client = natsd.client().await;
    let stations = bucket(&client, "bootline_stations").await;
    let again = holds(&stations, "st-01", |presence| presence["session"] != first["session"]).await;
    assert_eq!((&again["online"], &again["boot_id"]), (&json!(true), &first["boot_id"]));
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.stop().await;
}

on_both!(projects_stand_in_a_bucket_with_their_counts_and_go_with_the_project);
async fn projects_stand_in_a_bucket_with_their_counts_and_go_with_the_project(program: &Program) {
    let (mut world, natsd) = world(program).await;
    world.provision().await;
    let client = natsd.client().await;
    let projects = bucket(&client, "bootline_projects").await;
    let state = holds(&projects, "st-01.gateway", |state| state["counts"]["open"] == 1).await;
    assert_eq!((&state["name"], &state["status"]), (&json!("Gateway"), &json!("active")));
    let abort = br#"{"params":{"device":"dca632010203"}}"#;
    let reply = commands::answer(&world.ledger, "device.abort", abort, Transport::Rest).await;
    assert_eq!(reply.code, 200, "{reply:?}");
    let state = holds(&projects, "st-01.gateway", |state| state["counts"]["aborted"] == 1).await;
    assert_eq!(state["counts"]["open"], 0);
    // It goes while nobody can be told.
    world.stop().await;
    for name in ["project.deactivate", "project.delete"] {
        let reply =
            commands::answer(&world.ledger, name, br#"{"params":{"project":"gateway"}}"#, Transport::Rest).await;
        assert_eq!(reply.code, 200, "{reply:?}");
    }
    assert!(projects.get("st-01.gateway").await.unwrap().is_some());
    let mut watch = projects.watch("st-01.gateway").await.unwrap();
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    let gone = timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(gone.operation, jetstream::kv::Operation::Purge);
    world.stop().await;
}

on_both!(long_commands_stand_in_a_bucket_until_they_end);
async fn long_commands_stand_in_a_bucket_until_they_end(program: &Program) {
    let (mut world, natsd) = world(program).await;
    let client = natsd.client().await;
    let add = r#"{"command_id":"fetch-0001","params":{"url":"http://127.0.0.1:1/a.img"}}"#;
    let answer = asked(&client, "bootline.v1.st-01.cmd.image.add", add).await;
    let reply = json(&answer.payload);
    assert_eq!((&reply["status"], &reply["final"]), (&json!("accepted"), &json!(false)), "{reply}");
    let jobs = bucket(&client, "bootline_jobs").await;
    let job = holds(&jobs, "st-01.fetch-0001", |_| true).await;
    assert_eq!((&job["state"], &job["name"]), (&json!("queued"), &json!("image.add")));
    assert_eq!((&job["command_id"], &job["station"]), (&json!("fetch-0001"), &json!("st-01")));
    asked(&client, "bootline.v1.st-01.cmd.job.cancel", r#"{"params":{"job":"fetch-0001"}}"#).await;
    holds(&jobs, "st-01.fetch-0001", |job| job["state"] == "canceled").await;
    world.stop().await;
}

on_both!(the_stream_holds_every_event_once_and_in_order_over_five_kills_of_the_server);
async fn the_stream_holds_every_event_once_and_in_order_over_five_kills_of_the_server(program: &Program) {
    let (mut world, mut natsd) = world(program).await;
    world.storm(&mut natsd.server, Signal::SIGKILL, "nats").await;
    let client = natsd.client().await;
    let mut tally = Tally::default();
    for message in stored(&client).await {
        tally.note(std::str::from_utf8(&message.payload).unwrap());
    }
    assert_eq!(tally.missing(501), Vec::<u64>::new());
    assert_eq!((tally.overtaken(), tally.repeats()), (0, 0));
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.stop().await;
}

on_both!(a_server_that_comes_hours_late_gets_everything);
async fn a_server_that_comes_hours_late_gets_everything(program: &Program) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    world.produce(0..300).await;
    natsd.server.start().await;
    world.delivered("nats").await;
    assert_eq!(stored(&natsd.client().await).await.len(), 300);
    world.stop().await;
}

on_both!(an_event_that_is_too_large_for_the_server_is_left_out_and_the_next_goes);
async fn an_event_that_is_too_large_for_the_server_is_left_out_and_the_next_goes(program: &Program) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "max_payload: 8192");
    natsd.server.start().await;
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    world.arrive(1, "x".repeat(10_000)).await;
    world.happen(2).await;
    world.delivered("nats").await;
    let letters = world.ledger.dead_letters("nats".to_owned(), 0, 10).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.sequence).collect::<Vec<_>>(), [1]);
    assert!(letters[0].reason.contains("max"), "{}", letters[0].reason);
    let messages = stored(&natsd.client().await).await;
    assert!(messages.iter().all(|message| json(&message.payload)["sequence"] != format!("{:020}", 1)));
    assert_eq!(json(&messages[0].payload)["data"]["name"], "image-2.img");
    world.stop().await;
}

on_both!(a_server_that_is_about_to_stop_is_left_for_another);
async fn a_server_that_is_about_to_stop_is_left_for_another(program: &Program) {
    let mut world = World::new();
    let [mut first, mut second] =
        ["lame_duck_grace_period: 20s", ""].map(|extra| Natsd::new(program, world.folder.path(), extra));
    first.server.start().await;
    let mut settings = first.settings();
    settings.url = format!("{},{}", first.url(), second.url());
    world.start(Mqtt::Off, Some(settings)).await;
    asked(&first.client().await, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.happen(1).await;
    world.delivered("nats").await;
    second.server.start().await;
    // Lame duck: it takes no one new and ends those who stay only after the grace period.
    first.server.signal(Signal::SIGUSR2);
    let client = second.client().await;
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.happen(2).await;
    world.delivered("nats").await;
    let there = stored(&client).await;
    assert_eq!(json(&there[0].payload)["data"]["name"], "image-2.img");
    world.stop().await;
}

on_both!(progress_goes_past_the_stream);
async fn progress_goes_past_the_stream(program: &Program) {
    let (mut world, natsd) = world(program).await;
    let client = natsd.client().await;
    asked(&client, "bootline.v1.st-01.cmd.station.info", "{}").await;
    let mut reports = client.subscribe("bootline.v1.st-01.telemetry.device.dca632010203").await.unwrap();
    client.flush().await.unwrap();
    world.provision().await;
    let report = timeout(LONG, reports.next()).await.unwrap().unwrap();
    assert_eq!(json(&report.payload)["bytes"], 512);
    world.stop().await;
}
