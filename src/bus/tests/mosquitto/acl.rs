//! The sample configuration under `conf/mosquitto`: who may do what, against the real broker with the committed files.

use std::path::Path;

use tokio::process::Command;

use super::tls::{Authority, flags, secured};
use super::*;

const CONFIGURATION: &str = include_str!("../../../../conf/mosquitto/mosquitto.conf");
const RIGHTS: &str = include_str!("../../../../conf/mosquitto/bootline.acl");

/// The committed files with their paths and port put into a folder of the test.
async fn broker(folder: &Path) -> u16 {
    let authority = Authority::new();
    authority.write(folder);
    for (file, name) in
        [("server", "broker"), ("st-01", "st-01"), ("st-02", "st-02"), ("erp-prod", "erp-prod"), ("viewer", "viewer")]
    {
        authority.issue(folder, file, name);
    }
    std::fs::write(folder.join("bootline.acl"), RIGHTS).unwrap();
    let port = free_port();
    let here = folder.display().to_string();
    let mut text = CONFIGURATION.to_owned();
    for (there, to) in [
        ("listener 8883", format!("listener {port} 127.0.0.1")),
        ("/etc/mosquitto/certs/", format!("{here}/")),
        ("/etc/mosquitto/bootline.acl", format!("{here}/bootline.acl")),
        ("/var/lib/mosquitto/", format!("{here}/")),
        ("log_dest syslog", "log_dest stderr".to_owned()),
    ] {
        assert!(text.contains(there), "the sample has {there}");
        text = text.replace(there, &to);
    }
    std::fs::write(folder.join("sample.conf"), format!("{text}\nuser root\n")).unwrap();
    port
}

/// Publishes as somebody; says whether the broker took it.
async fn may(folder: &Path, port: u16, who: &str, topic: &str) -> bool {
    let output = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", "5", "-q", "1", "-t", topic, "-m", "{}"])
        .args(flags(folder, who))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.is_empty() || said.contains("Not authorized"), "{who} {topic}: {said}");
    said.is_empty()
}

async fn listen(folder: &Path, port: u16, who: &str, topic: &str) -> Subscriber {
    let flags = flags(folder, who);
    let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    arguments.extend(["-q", "1", "-t", topic, "-F", ">%t"]);
    Subscriber::new(port, &arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_lets_everyone_do_what_is_theirs_and_nothing_else() {
    let mut world = World::named("st-01", "");
    let folder = world.folder.path().join("sample");
    std::fs::create_dir(&folder).unwrap();
    let port = broker(&folder).await;
    let mut server = Server::mosquitto_with(folder.join("sample.conf"), port);
    server.start().await;

    for (who, topic, allowed) in [
        ("st-01", "st-01/evt/device/dca632010203", true),
        ("st-01", "st-01/state/presence", true),
        ("st-01", "st-01/telemetry/device/dca632010203", true),
        ("st-01", "st-01/job/fetch-001", true),
        ("st-01", "st-01/res/station/info", true),
        ("st-01", "_reply/erp-prod/1", true),
        ("st-01", "st-02/evt/device/dca632010203", false),
        ("st-01", "st-02/state/presence", false),
        ("st-01", "st-02/cmd/device/abort", false),
        ("st-01", "_any/cmd/device/abort", false),
        ("erp-prod", "st-01/cmd/station/info", true),
        ("erp-prod", "_any/cmd/project/create", true),
        ("erp-prod", "_all/cmd/station/info", true),
        ("erp-prod", "st-01/evt/device/dca632010203", false),
        ("erp-prod", "st-01/state/presence", false),
        ("erp-prod", "_reply/viewer/1", false),
        ("viewer", "st-01/cmd/station/info", false),
        ("viewer", "_any/cmd/station/info", false),
        ("viewer", "st-01/evt/device/dca632010203", false),
        ("viewer", "_reply/erp-prod/1", false),
    ] {
        let topic = format!("bootline/v1/{topic}");
        assert_eq!(may(&folder, port, who, &topic).await, allowed, "{who} publishes to {topic}");
    }
    // Whoever listens to everything hears what is theirs: the forbidden one is sent first and does not come.
    for (who, hidden, shown) in [
        ("viewer", "_reply/erp-prod/1", "st-01/evt/image/x"),
        ("erp-prod", "_reply/viewer/1", "_reply/erp-prod/1"),
        ("st-02", "st-01/evt/image/x", "_reply/st-02/1"),
    ] {
        let mut ears = listen(&folder, port, who, "bootline/v1/+/+/#").await;
        for topic in [hidden, shown] {
            assert!(may(&folder, port, "st-01", &format!("bootline/v1/{topic}")).await);
        }
        assert_eq!(ears.message().await, format!("bootline/v1/{shown}"), "{who}");
    }

    // And a station has all that it needs.
    let mut viewer = listen(&folder, port, "viewer", "bootline/v1/st-01/evt/#").await;
    world.start(Mqtt::Broker(secured(port, &folder, "st-01")), None).await;
    world.happen(1).await;
    assert!(viewer.message().await.starts_with("bootline/v1/st-01/evt/image/"));
    world.delivered("mqtt").await;
    let flags = flags(&folder, "erp-prod");
    for who in ["st-01", "_any", "_all"] {
        let (topic, inbox) = (format!("bootline/v1/{who}/cmd/station/info"), "bootline/v1/_reply/erp-prod/1");
        let mut asked = vec!["-V", "5", "-q", "1", "-t", &topic, "-e", inbox, "-m", "{}"];
        asked.extend(flags.iter().map(String::as_str));
        assert_eq!(json(&client("mosquitto_rr", port, &asked).await)["code"], 200, "{who}");
    }
    let events = world.ledger.events(0, 100).await.unwrap();
    assert!(events.iter().all(|event| event.name == "image.added"), "no alarm was raised: {events:?}");
    world.stop().await;
}
