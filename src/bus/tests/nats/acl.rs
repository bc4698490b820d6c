//! `conf/nats/nats-server.conf` as it is committed, with keys, address and folder put in: what each user may and may
//! not do.

use std::sync::Arc;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::keys::Key;
use super::{LONG, Natsd, Program, World, asked, bucket, holds, json, on_both};
use crate::bus::{Mqtt, nats};

struct Site {
    world: World,
    natsd: Natsd,
    station: Key,
    erp: Key,
    viewer: Key,
    admin: Key,
}

async fn site(program: &Program) -> Site {
    let world = World::new();
    let [station, erp, viewer, admin] = [(); 4].map(|()| Key::user());
    let mut natsd = Natsd::new(program, world.folder.path(), "");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/nats/nats-server.conf");
    let mut text = std::fs::read_to_string(path).unwrap();
    let (listen, store) = (format!("127.0.0.1:{}", natsd.server.port), world.folder.path().join("nats"));
    for (placeholder, value) in [
        ("U-PUBLIC-KEY-OF-STATION-ST-01", station.public()),
        ("U-PUBLIC-KEY-OF-THE-ERP", erp.public()),
        ("U-PUBLIC-KEY-OF-THE-VIEWER", viewer.public()),
        ("U-PUBLIC-KEY-OF-THE-ADMINISTRATOR", admin.public()),
        ("0.0.0.0:4222", listen),
        ("/var/lib/nats", store.display().to_string()),
    ] {
        assert_eq!(text.matches(placeholder).count(), 1, "{placeholder} stands there once");
        text = text.replace(placeholder, &value);
    }
    std::fs::write(&natsd.config, text).unwrap();
    natsd.server.start().await;
    Site { world, natsd, station, erp, viewer, admin }
}

impl Site {
    async fn start(&mut self) {
        let login = nats::Login::Nkey(self.station.seed_file(self.world.folder.path()));
        self.world.start(Mqtt::Off, Some(nats::Settings { login, ..self.natsd.settings() })).await;
    }

    async fn user(&self, key: &Key, name: &str) -> User {
        let violations = watch::Sender::new(Vec::new());
        let heard = Arc::new(violations.clone());
        let client = ConnectOptions::with_nkey(key.seed())
            .custom_inbox_prefix(format!("_INBOX.{name}"))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    heard.send_modify(|all| all.push(error.to_string()));
                }
                std::future::ready(())
            })
            .connect(self.natsd.url())
            .await
            .unwrap();
        User { client, violations }
    }
}

/// A client that hears what it may not do.
struct User {
    client: Client,
    violations: watch::Sender<Vec<String>>,
}

impl User {
    async fn denied(&self, what: &str, subject: &str) {
        let said = format!("Permissions Violation for {what} to \"{subject}\"");
        let mut violations = self.violations.subscribe();
        let heard = violations.wait_for(|all| all.iter().any(|violation| violation.contains(&said)));
        timeout(LONG, heard).await.unwrap_or_else(|_| panic!("{what} to {subject} is let through")).unwrap();
    }

    async fn may_not_publish(&self, subject: &str) {
        self.client.publish(subject.to_owned(), "x".into()).await.unwrap();
        self.denied("Publish", subject).await;
    }

    async fn may_not_subscribe(&self, subject: &str) {
        let _subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.denied("Subscription", subject).await;
    }

    /// What one publishes, the administrator hears.
    async fn may_publish(&self, admin: &Self, subject: &str) {
        let mut hears = admin.client.subscribe(subject.to_owned()).await.unwrap();
        // An answer of the server: the subscription stands.
        admin.client.request("$JS.API.INFO", "".into()).await.unwrap();
        self.client.publish(subject.to_owned(), "x".into()).await.unwrap();
        timeout(LONG, hears.next()).await.unwrap_or_else(|_| panic!("{subject}: {:?}", self.violations.borrow()));
    }

    async fn may_subscribe(&self, admin: &Self, subject: &str) {
        let mut hears = self.client.subscribe(subject.to_owned()).await.unwrap();
        let said = async {
            loop {
                admin.client.publish(subject.to_owned(), "x".into()).await.unwrap();
                // Until the subscription stands.
                if let Ok(heard) = timeout(std::time::Duration::from_millis(100), hears.next()).await {
                    return heard;
                }
            }
        };
        timeout(LONG, said).await.unwrap_or_else(|_| panic!("{subject}: {:?}", self.violations.borrow())).unwrap();
    }
}

on_both!(a_station_works_with_the_sample_and_lacks_no_right);
async fn a_station_works_with_the_sample_and_lacks_no_right(program: &Program) {
    let mut site = site(program).await;
    site.start().await;
    site.world.provision().await;
    site.world.delivered("nats").await;
    let erp = site.user(&site.erp, "erp").await;
    let reply = json(&asked(&erp.client, "bootline.v1.st-01.cmd.station.info", "{}").await.payload);
    assert_eq!(reply["status"], "succeeded", "{reply}");
    for scope in ["any", "all"] {
        let reply = json(&asked(&erp.client, &format!("bootline.v1.{scope}.cmd.project.list"), "{}").await.payload);
        assert_eq!(reply["status"], "succeeded", "{reply}");
    }
    let info = json(&asked(&erp.client, "$SRV.INFO.bootline-station", "").await.payload);
    assert_eq!(info["metadata"]["station"], "st-01");
    let add = r#"{"command_id":"fetch-0001","params":{"url":"http://127.0.0.1:1/a.img"}}"#;
    asked(&erp.client, "bootline.v1.st-01.cmd.image.add", add).await;
    // The ERP watches the buckets.
    for (name, key) in
        [("bootline_stations", "st-01"), ("bootline_projects", "st-01.gateway"), ("bootline_jobs", "st-01.fetch-0001")]
    {
        let bucket = bucket(&erp.client, name).await;
        assert_eq!(holds(&bucket, key, |_| true).await["v"], 1);
    }
    // And reads events durably.
    let stream = jetstream::new(erp.client.clone()).get_stream("BOOTLINE_EVT").await.unwrap();
    let durable = pull::Config {
        durable_name: Some("erp".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(durable).await.unwrap();
    let event = timeout(LONG, consumer.messages().await.unwrap().next()).await.unwrap().unwrap().unwrap();
    event.double_ack().await.unwrap();
    // The station finds the rest of an earlier life, too.
    site.world.stop().await;
    site.start().await;
    site.world.delivered("nats").await;
    holds(&bucket(&erp.client, "bootline_stations").await, "st-01", |presence| presence["online"] == true).await;
    site.world.stop().await;
    let events = site.world.ledger.events(0, 1000).await.unwrap();
    let alarms: Vec<_> = events.iter().filter(|event| event.name.starts_with("station.alarm")).collect();
    assert!(alarms.is_empty(), "{alarms:?}");
    assert_eq!(*erp.violations.borrow(), Vec::<String>::new());
}

on_both!(each_user_of_the_sample_does_its_own_and_no_more);
async fn each_user_of_the_sample_does_its_own_and_no_more(program: &Program) {
    let mut site = site(program).await;
    let (station, erp) = (site.user(&site.station, "st-01").await, site.user(&site.erp, "erp").await);
    let (viewer, admin) = (site.user(&site.viewer, "viewer").await, site.user(&site.admin, "admin").await);
    for subject in
        ["bootline.v1.st-01.evt.device.dca632010203.failed", "bootline.v1.st-01.telemetry.device.dca632010203"]
    {
        station.may_publish(&admin, subject).await;
    }
    for subject in [
        "bootline.v1.st-02.evt.device.dca632010203.failed",
        "bootline.v1.st-02.cmd.device.abort",
        "$KV.bootline_stations.st-02",
        "$KV.bootline_jobs.st-02.fetch-0001",
        "$JS.API.STREAM.DELETE.BOOTLINE_EVT",
        "$JS.API.STREAM.UPDATE.BOOTLINE_EVT",
        "$JS.API.STREAM.PURGE.BOOTLINE_EVT",
        "_INBOX.erp.forged",
    ] {
        station.may_not_publish(subject).await;
    }
    for subject in ["bootline.v1.st-02.cmd.>", "_INBOX.erp.>", "bootline.v1.*.evt.>"] {
        station.may_not_subscribe(subject).await;
    }
    for subject in ["bootline.v1.st-01.cmd.device.abort", "bootline.v1.any.cmd.project.create"] {
        erp.may_publish(&admin, subject).await;
    }
    for subject in [
        "bootline.v1.st-01.evt.device.dca632010203.provisioned",
        "$KV.bootline_stations.st-01",
        "$JS.API.STREAM.DELETE.BOOTLINE_EVT",
        "$JS.API.CONSUMER.DELETE.BOOTLINE_EVT.other",
    ] {
        erp.may_not_publish(subject).await;
    }
    erp.may_subscribe(&admin, "bootline.v1.st-01.evt.device.dca632010203.failed").await;
    erp.may_not_subscribe("_INBOX.viewer.>").await;
    viewer.may_publish(&admin, "bootline.v1.st-01.cmd.station.info").await;
    viewer.may_publish(&admin, "bootline.v1.all.cmd.project.list").await;
    for subject in [
        "bootline.v1.st-01.cmd.device.abort",
        "bootline.v1.any.cmd.project.create",
        "bootline.v1.st-01.evt.device.x.failed",
    ] {
        viewer.may_not_publish(subject).await;
    }
    viewer.may_subscribe(&admin, "bootline.v1.st-01.telemetry.device.dca632010203").await;
    for subject in ["_INBOX.erp.>", "bootline.v1.st-01.cmd.>"] {
        viewer.may_not_subscribe(subject).await;
    }
    assert!(async_nats::connect(site.natsd.url()).await.is_err(), "a stranger is not let in");

    // To answer is all that a station may say outside of its own: once.
    site.start().await;
    let reply = json(&asked(&viewer.client, "bootline.v1.st-01.cmd.station.info", "{}").await.payload);
    assert_eq!(reply["code"], json!(200));
    site.world.stop().await;
}
