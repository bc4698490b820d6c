//! Whoever is not there, and whoever is there twice.

use serde_json::Value;

use super::*;
use crate::bus::Mqtt;

/// The next alarm that a ledger takes down, by its event and code.
async fn alarm(follower: &mut crate::ledger::Follower) -> (String, String) {
    loop {
        for event in tokio::time::timeout(crate::bus::tests::LONG, follower.next()).await.unwrap().unwrap() {
            if event.name.starts_with("station.alarm") {
                let body: Value = serde_json::from_slice(&event.body).unwrap();
                return (event.name, body["data"]["code"].as_str().unwrap().to_owned());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_of_two_stations_with_one_name_one_gives_way_with_an_alarm() {
    let (mut world, server) = world("").await;
    online(server.port).await;
    let mut rival = World::new();
    let (mut here, mut there) = (world.ledger.follow(0), rival.ledger.follow(0));
    rival.start(station(&server), None).await;
    let silent = tokio::select! {
        alarm = alarm(&mut here) => { assert_eq!(alarm.1, "bus.duplicate_station"); "first" }
        alarm = alarm(&mut there) => { assert_eq!(alarm.1, "bus.duplicate_station"); "second" }
    };
    // The other one serves on, and is not disturbed any more.
    let heard = if silent == "first" { &rival } else { &world };
    heard.happen(1).await;
    heard.delivered("mqtt").await;
    let quiet = if silent == "first" { &world } else { &rival };
    let before = quiet.ledger.cursor("mqtt").await.unwrap();
    quiet.happen(2).await;
    heard.happen(3).await;
    heard.delivered("mqtt").await;
    assert_eq!(quiet.ledger.cursor("mqtt").await.unwrap(), before, "the silent one sends nothing");
    world.stop().await;
    rival.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_takes_events_is_an_alarm_and_can_hold_the_line() {
    let mut world = World::new();
    let mut server = Server::mosquitto(world.folder.path(), "");
    server.start().await;
    let mut settings = mqtt::Settings::plain("127.0.0.1", server.port);
    settings.require_consumer = true;
    let mut journal = world.ledger.follow(0);
    world.start(Mqtt::Broker(settings), None).await;
    world.happen(1).await;
    assert_eq!(alarm(&mut journal).await, ("station.alarm.raised".to_owned(), "bus.no_consumer".to_owned()));
    assert_eq!(world.ledger.cursor("mqtt").await.unwrap(), 0, "the event waits");
    let mut erp = Subscriber::new(server.port, &["-q", "1", "-t", &format!("{OWN}/evt/#"), "-F", ">%p"]).await;
    let mut tally = Tally::default();
    tally.note(&erp.message().await);
    assert_eq!(tally.seen, [1], "it is sent again, now that somebody takes it");
    assert_eq!(alarm(&mut journal).await, ("station.alarm.cleared".to_owned(), "bus.no_consumer".to_owned()));
    world.delivered("mqtt").await;
    world.stop().await;
}
