//! Several projects at once, on the built agent: every simulated device gets the image that its rule says, and the script
//! and the words that are meant for it.

use std::fs;

use serde_json::{Value, json};

use crate::line::Line;
use crate::net::Net;

const FIRST: &str = "02:00:00:20:00:00";
const FILES: [&str; 5] = ["start4.elf", "fixup4.dat", "kernel.img", "scriptexecute.img", "bcm2711-rpi-cm4.dtb"];

/// A project of its own image, filled with `byte`.
fn project(line: &Line, name: &str, byte: u8, more: &Value) -> String {
    let image = line.folder.path().join(format!("{name}.img"));
    fs::write(&image, vec![byte; 1 << 20]).unwrap();
    let path = format!("/api/v1/images?name={name}.img");
    let added = line.curl(&["--data-binary", &format!("@{}", image.display())], &path);
    let id = added["image"]["id"].as_str().unwrap_or_else(|| panic!("{added}")).to_owned();
    let mut wanted = json!({"name": name, "image": id});
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let created = line.curl(&["-d", &wanted.to_string()], "/api/v1/projects");
    assert_eq!(created["project"]["name"], name, "{created}");
    id
}

/// Which project the rules below mean for device `number`.
const fn meant(number: usize) -> usize {
    match number {
        0x00..=0x1f => 0,
        0x20..=0x3f => 1,
        _ => 2,
    }
}

#[test]
fn a_hundred_devices_at_once_get_what_their_rules_say_of_three_projects() {
    let Some(net) = Net::make() else { return };
    let mut line = Line::new(net, "off", &FILES);
    // All of them share this machine: one that waits for its turn is not gone.
    line.configure("silence: 5s", "silence: 120s");
    line.start();
    let nothing = json!({});
    let images: Vec<String> = [("one", 1), ("two", 2), ("three", 3)]
        .iter()
        .map(|(name, byte)| project(&line, name, *byte, &nothing))
        .collect();
    let rules = json!({"rules": [
        {"project": "one", "when": {"mac": ["020000200000-02000020001f"]}},
        {"project": "two", "when": {"mac": ["0200002000??"], "serial": ["*2?", "*3?"]}},
    ]});
    let set = line.curl(&["-X", "PUT", "-d", &rules.to_string()], "/api/v1/rules");
    assert_eq!(set["revision"], 1, "{set}");
    for name in ["one", "two", "three"] {
        line.curl(&["-X", "POST"], &format!("/api/v1/projects/{name}/activate"));
    }
    let dry = line.curl(&["-d", r#"{"device":"020000200001"}"#], "/api/v1/rules/test");
    assert_eq!(dry["choice"], json!({"by": "rule", "rule": 0, "project": "one"}), "{dry}");

    let media = line.folder.path().join("media");
    let booted = line.boot(&["--devices", "100", "--first", FIRST, "--keep", media.to_str().unwrap()]);
    assert_eq!(booted["passed"], 100, "{booted}");
    let sessions = line.curl(&[], "/api/v1/sessions?limit=200")["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 100);
    for session in sessions {
        let mac = session["mac"].as_str().unwrap();
        let project = meant(usize::from_str_radix(&mac[10..], 16).unwrap());
        assert_eq!(session["project"], ["one", "two", "three"][project], "{session}");
        assert_eq!(session["image"], *images[project], "{session}");
        assert_eq!(session["outcome"], "passed", "{session}");
        let medium = fs::read(media.join(format!("{mac}.medium"))).unwrap();
        let byte = u8::try_from(project + 1).unwrap();
        assert!(medium.len() == 1 << 20 && medium.iter().all(|other| *other == byte), "another image on {mac}");
    }
}

#[test]
fn a_script_runs_with_what_its_device_was_assigned_and_secrets_are_nowhere() {
    let Some(net) = Net::make() else { return };
    let mut line = Line::new(net, "off", &FILES);
    line.start();
    let script = json!({"name": "Label", "text": "echo \"$HOSTNAME got ${KEY:+a key}\""});
    assert_eq!(line.curl(&["-d", &script.to_string()], "/api/v1/scripts")["script"]["revision"], 1);
    project(&line, "one", 1, &json!({"active": true, "scripts": {"preinstall": ["label"], "postinstall": ["label"]}}));
    let mac = FIRST.replace(':', "");
    let wanted = json!({"variables": {"HOSTNAME": "gw-7"}, "secrets": {"KEY": "hunter2"}});
    let assigned = line.curl(&["-d", &wanted.to_string()], &format!("/api/v1/devices/{mac}/assign"));
    assert_eq!(assigned["secrets"], json!(["KEY"]), "{assigned}");
    let booted = line.boot(&["--first", FIRST]);
    assert_eq!(booted["passed"], 1, "{booted}");

    let known = line.curl(&[], &format!("/api/v1/devices/{mac}"));
    let session = known["sessions"][0].clone();
    let steps: Vec<&str> =
        session["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["preinstall", "write", "verify", "postinstall"]);
    let id = session["session"].as_str().unwrap();
    let output = line.curl(&[], &format!("/api/v1/sessions/{id}/output"));
    assert_eq!(output["output"][0]["text"], "gw-7 got a key\n", "{output}");
    let events = line.curl(&[], "/api/v1/events?limit=1000");
    for page in [&events, &known, &line.curl(&[], &format!("/api/v1/sessions/{id}"))] {
        assert!(!page.to_string().contains("hunter2"), "{page}");
    }
    assert!(events.to_string().contains("gw-7"), "what is no secret is told");
}
