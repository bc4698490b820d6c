//! What the built agent tells of a boot: the timeline of its session, the sums in its events.

use serde_json::Value;

use crate::agent::PATIENCE;
use crate::line::Line;
use crate::net::Net;

const FIRST: &str = "02:00:00:10:00:00";

/// `what name result` of each row of a timeline.
fn rows(page: &Value) -> Vec<String> {
    let timeline = page["timeline"].as_array().unwrap_or_else(|| panic!("{page}"));
    let word = |moment: &Value, field: &str| moment[field].as_str().unwrap().to_owned();
    timeline.iter().map(|row| format!("{} {} {}", word(row, "what"), word(row, "name"), word(row, "result"))).collect()
}

#[test]
fn a_session_shows_how_its_device_came_up() {
    let Some(net) = Net::make() else { return };
    let mut line =
        Line::new(net, "off", &["start4.elf", "fixup4.dat", "kernel.img", "scriptexecute.img", "bcm2711-rpi-cm4.dtb"]);
    line.start();
    line.project();
    assert_eq!(line.boot(&["--first", FIRST])["passed"], 1);

    let path = format!("/api/v1/devices/{}", FIRST.replace(':', ""));
    let begun = std::time::Instant::now();
    // The boot files of the last second come a second later.
    let known = loop {
        let known = line.curl(&[], &path);
        if rows(&known).iter().any(|row| row.ends_with("scriptexecute.img sent")) {
            break known;
        }
        assert!(begun.elapsed() < PATIENCE, "{known}");
    };
    let boot = &known["device"]["boot"];
    assert!(boot["files"].as_u64() >= Some(3) && boot["missing"].as_u64() >= Some(1), "{boot}");
    assert!(boot["bytes"].as_u64() >= Some(150_000), "{boot}");

    let id = known["sessions"][0]["session"].as_str().unwrap();
    let session = line.curl(&[], &format!("/api/v1/sessions/{id}"));
    let shown = rows(&session);
    assert_eq!(shown[0], "boot dhcp ");
    let position = |row: &str| {
        shown.iter().position(|shown| shown.starts_with(row)).unwrap_or_else(|| panic!("no {row}: {shown:?}"))
    };
    let order = [
        "boot dhcp",
        "dhcp discover offer 192.168.",
        "dhcp request ack 192.168.",
        "file ",
        "script scriptexecute started",
    ];
    assert!(order.windows(2).all(|pair| position(pair[0]) < position(pair[1])), "{shown:?}");
    assert!(shown.iter().any(|row| row.starts_with("file ") && row.ends_with(" missing")), "{shown:?}");
    let kernel = session["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"].as_str().unwrap().ends_with("start4.elf") && row["result"] == "sent");
    assert_eq!(kernel.unwrap()["bytes"], 50_000);
    assert!(session["timeline"].as_array().unwrap().iter().all(|row| row["at"].is_string()));

    let events = line.curl(&[], "/api/v1/events?limit=1000");
    let of = |kind: &str| {
        let found = events["events"].as_array().unwrap().iter().find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}"))["data"].clone()
    };
    let (discovered, started) = (of("io.bootline.device.discovered.v1"), of("io.bootline.device.started.v1"));
    assert_eq!(
        (discovered["model"].as_str(), discovered["memory_mb"].as_u64()),
        (Some("CM4"), Some(4096)),
        "{discovered}"
    );
    let told = &started["boot"];
    assert_eq!((&told["via"], &told["address"]), (&"dhcp".into(), &discovered["address"]), "{told}");
    assert!(told["duration_ms"].as_u64() > Some(0) && told["discovered_at"].is_string(), "{told}");
}
