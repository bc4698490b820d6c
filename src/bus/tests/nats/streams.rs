//! Streams that others make: not there, or there with other settings.

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;

use super::{Natsd, Program, World, bucket, holds, json, on_both, stored};
use crate::bus::{Mqtt, nats};

on_both!(a_stream_with_other_settings_is_told_and_stays_as_it_is);
async fn a_stream_with_other_settings_is_told_and_stays_as_it_is(program: &Program) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    natsd.server.start().await;
    let context = jetstream::new(natsd.client().await);
    let day = std::time::Duration::from_secs(24 * 3600);
    let theirs = Config {
        name: "BOOTLINE_EVT".to_owned(),
        subjects: vec!["bootline.v1.*.evt.>".to_owned()],
        max_age: day,
        duplicate_window: day / 2,
        ..Config::default()
    };
    context.create_stream(theirs).await.unwrap();
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    let detail = world.raised("bus.stream.nats").await;
    for what in ["BOOTLINE_EVT", "kept for 24 h", "known for 12 h", "deny_delete"] {
        assert!(detail.contains(what), "{detail} lacks {what}");
    }
    world.delivered("nats").await;
    let mut stream = context.get_stream("BOOTLINE_EVT").await.unwrap();
    assert_eq!(stream.cached_info().config.max_age, day);

    // Somebody mends it; at the next start it is well.
    world.stop().await;
    let mut config = stream.info().await.unwrap().config.clone();
    config.max_age = 90 * day;
    config.duplicate_window = 3 * day;
    config.deny_delete = true;
    config.allow_direct = true;
    context.update_stream(config).await.unwrap();
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    world.cleared("bus.stream.nats").await;
    world.stop().await;
}

on_both!(with_streams_of_others_a_missing_one_is_an_alarm_until_it_is_there);
async fn with_streams_of_others_a_missing_one_is_an_alarm_until_it_is_there(program: &Program) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    natsd.server.start().await;
    world.happen(1).await;
    world.start(Mqtt::Off, Some(nats::Settings { manage_streams: false, ..natsd.settings() })).await;
    let detail = world.raised("bus.refused.nats").await;
    assert!(detail.contains("BOOTLINE_EVT"), "{detail}");
    let detail = world.raised("bus.denied.nats").await;
    assert!(detail.contains("bootline_stations"), "{detail}");
    let client = natsd.client().await;
    let context = jetstream::new(client.clone());
    assert!(context.get_stream("BOOTLINE_EVT").await.is_err(), "it makes none");
    for (name, subject) in [
        ("BOOTLINE_EVT", "bootline.v1.*.evt.>"),
        ("KV_bootline_stations", "$KV.bootline_stations.>"),
        ("KV_bootline_jobs", "$KV.bootline_jobs.>"),
        ("KV_bootline_projects", "$KV.bootline_projects.>"),
    ] {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            max_messages_per_subject: if name.starts_with("KV") { 1 } else { -1 },
            allow_rollup: true,
            allow_direct: true,
            ..Config::default()
        };
        context.create_stream(config).await.unwrap();
    }
    world.cleared("bus.refused.nats").await;
    world.cleared("bus.denied.nats").await;
    world.delivered("nats").await;
    assert_eq!(json(&stored(&client).await[0].payload)["data"]["name"], "image-1.img");
    holds(&bucket(&client, "bootline_stations").await, "st-01", |presence| presence["online"] == true).await;
    world.stop().await;
}

on_both!(a_server_without_jetstream_is_an_alarm_that_says_so);
async fn a_server_without_jetstream_is_an_alarm_that_says_so(program: &Program) {
    let mut world = World::new();
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    natsd.write_bare();
    natsd.server.start().await;
    world.happen(1).await;
    world.start(Mqtt::Off, Some(natsd.settings())).await;
    let detail = world.raised("bus.refused.nats").await;
    assert!(detail.contains("without JetStream"), "{detail}");
    super::asked(&natsd.client().await, "bootline.v1.st-01.cmd.station.info", "{}").await;
    world.stop().await;
}
