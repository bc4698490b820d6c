//! A full disk: nothing is acknowledged that is not written, and the station goes on when there is room again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent, sequence};
use crate::board::{FakeBoard, sha256};
use crate::fetch::{Found, Site, fetched, listener, serve};
use crate::http;

/// The agent with its data on a small disk of its own and its temporary files on another one, in a mount namespace that
/// goes with it. None where that is forbidden; with `CI=true` that is a failure.
fn start(printers: &str) -> Option<TestAgent> {
    // The network stays that of the machine: the agent takes its address on lo there.
    let enter = ["--mount"];
    let allowed = Command::new("unshare").args(enter).arg("true").status().is_ok_and(|status| status.success());
    if !allowed {
        assert!(std::env::var_os("CI").is_none(), "a mount namespace is needed and forbidden here");
        eprintln!("skipped: mount namespaces are forbidden here");
        return None;
    }
    let printers = printers.to_owned();
    Some(TestAgent::start_by("{mqtt: off}", move |folder| {
        let [data, temporary] = ["data", "tmp"].map(|name| folder.join(name));
        for folder in [&data, &temporary] {
            fs::create_dir_all(folder).unwrap();
        }
        let script = "mount -t tmpfs -o size=12m,mode=0700 none \"$1\" && mount -t tmpfs -o size=64k none \"$2\" && \
                      shift 2 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(enter).args(["sh", "-c", script, "sh"]).arg(data).arg(&temporary);
        command.arg(env!("CARGO_BIN_EXE_bootline"));
        command.env("BOOTLINE__IMAGES__RESERVE", "1MiB").env("BOOTLINE__PRINTERS", &printers);
        command.env("TMPDIR", temporary);
        command
    }))
}

/// A folder of the agent as the agent sees it.
fn inside(agent: &TestAgent, name: &str) -> PathBuf {
    let folder = agent.folder.path().join(name);
    PathBuf::from(format!("/proc/{}/root{}", agent.process(), folder.display()))
}

/// Takes what is free, to the last byte.
fn fill(file: &Path) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    while file.write_all(&[1; 65536]).is_ok() {}
    while file.write_all(&[1; 512]).is_ok() {}
}

/// Data of the events of this type, once there are so many.
fn await_events(agent: &TestAgent, name: &str, count: usize) -> Vec<Value> {
    let wanted = format!("io.bootline.{name}.v1");
    let end = Instant::now() + PATIENCE;
    loop {
        let events = agent.events();
        let met = events.iter().filter(|event| event["type"] == wanted.as_str());
        let met: Vec<Value> = met.map(|event| event["data"].clone()).collect();
        if met.len() >= count {
            return met;
        }
        assert!(Instant::now() < end, "no {count} {name} in {events:#?}");
    }
}

/// A label, and a project that prints it there when a device has passed.
fn with_label(agent: &TestAgent, printer: &str) {
    let label = json!({"name": "Plate", "text": "{{ device.mac }} "});
    assert_eq!(agent.post("/api/v1/labels", &label).status, 200);
    let image = agent.image("a.img", &[3; 4096]);
    let labels = json!([{"label": "plate", "on": "passed", "printer": printer}]);
    let project = json!({"name": "Gateway", "image": image, "active": true, "labels": labels});
    assert_eq!(agent.post("/api/v1/projects", &project).status, 201);
}

#[test]
fn a_full_disk_stops_everything_in_order_and_room_heals_it() {
    let Some(agent) = start("[]") else { return };
    agent.project("Gateway", &agent.image("a.img", &[3; 4096]));
    let before = agent.events();
    let filler = inside(&agent, "data").join("filler");
    fill(&filler);

    let command = |id: &str| {
        let params = json!({"name": id, "image": "a.img"});
        agent.post("/api/v1/commands", &json!({"name": "project.create", "command_id": id, "params": params}))
    };
    // The log of the database may have a little room left in its last block.
    let mut written = 0;
    let refused = loop {
        let answer = command(&format!("order-{written:04}"));
        match answer.status {
            200 => written += 1,
            _ => break answer,
        }
        assert!(written < 5000, "the disk is full");
    };
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("unavailable")));
    assert_eq!(agent.get("/readyz").status, 503);
    let board = FakeBoard::new(agent.devices, 1);
    let script = board.ask(4096).unwrap();
    assert_eq!(script.status, 503, "{}", script.text());
    let upload = http::call(agent.operators, "POST", "/api/v1/images?name=b.img", &[], &[4; 1 << 20]).unwrap();
    assert!(upload.status >= 500, "{}", upload.text());
    let full = agent.events();
    assert_eq!(full.len(), before.len() + 2 * written, "each of the commands that were answered, whole, and no other");

    fs::remove_file(&filler).unwrap();
    let again = command(&format!("order-{written:04}"));
    assert_eq!((again.status, &again.json()["replayed"]), (200, &json!(false)), "{}", again.text());
    assert_eq!(agent.get("/readyz").status, 200);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    let events = agent.events();
    assert_eq!(sequence(&events[full.len()]), full.len() as u64 + 1, "no number was lost");
    agent.finish();
}

#[test]
fn an_image_by_url_that_does_not_fit_is_refused_and_leaves_its_room_and_the_line_alone() {
    let Some(agent) = start("[]") else { return };
    let (socket, address) = listener();
    let (large, fits) = (vec![3; 32 << 20], vec![4; 1 << 20]);
    let site = Site::from([
        ("/announced.img", Found::File(large.clone())),
        // The disk itself says no, in the middle of the file.
        ("/unannounced.img", Found::Unannounced(large)),
        ("/fits.img", Found::File(fits.clone())),
    ]);
    serve(socket, site, None);
    for path in ["/announced.img", "/unannounced.img"] {
        let job = fetched(&agent, &format!("http://{address}{path}"));
        assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("disk_full")), "{path}: {job}");
        let kept: Vec<_> = fs::read_dir(inside(&agent, "data").join("images/fetch")).unwrap().flatten().collect();
        assert!(kept.is_empty(), "{path}: {kept:?}");
    }
    let job = fetched(&agent, &format!("http://{address}/fits.img"));
    assert_eq!((&job["state"], &job["image"]), (&json!("succeeded"), &json!(sha256(&fits))), "{job}");
    agent.project("Gateway", &sha256(&fits));
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(1 << 20).unwrap().status, 200);
    agent.finish();
}

/// What a printer takes that is a named pipe: label by label. Until somebody reads, it holds the first.
fn taken(pipe: PathBuf) -> Receiver<String> {
    let (tell, labels) = channel();
    thread::spawn(move || {
        while let Ok(label) = fs::read_to_string(&pipe) {
            if tell.send(label).is_err() {
                return;
            }
        }
    });
    labels
}

#[test]
fn a_full_disk_refuses_a_label_prints_none_twice_and_fails_no_device() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let printer = format!("[{{name: pipe, command: [sh, -c, 'cat > {}'], timeout: 1h}}]", pipe.display());
    let Some(agent) = start(&printer) else { return };
    with_label(&agent, "pipe");
    let first = FakeBoard::new(agent.devices, 1);
    assert_eq!(first.provision(4096).unwrap().status, 200);
    await_events(&agent, "label.queued", 1);

    // The alarm comes while there is room to write it down.
    let filler = inside(&agent, "data").join("filler");
    let disk = nix::sys::statvfs::statvfs(&inside(&agent, "data")).unwrap();
    let free = usize::try_from(disk.blocks_available() * disk.fragment_size()).unwrap();
    fs::write(&filler, vec![1; free - (1 << 20)]).unwrap();
    let alarm = await_events(&agent, "station.alarm.raised", 1).remove(0);
    assert_eq!(alarm["code"], "disk.low", "{alarm}");
    fill(&filler);

    let print = json!({"device": first.mac, "printer": "pipe", "reprint": true});
    let mut queued = 1;
    let refused = loop {
        let answer = agent.post("/api/v1/labels/plate/print", &print);
        match answer.status {
            200 | 202 => queued += 1,
            _ => break answer,
        }
        assert!(queued < 1000, "the disk is full");
    };
    assert_eq!((refused.status, refused.code()), (503, "unavailable".to_owned()), "{}", refused.text());
    assert!(refused.text().contains("full"), "it says why: {}", refused.text());
    let second = FakeBoard::new(agent.devices, 2);
    assert_eq!(second.ask(4096).unwrap().status, 503, "its curl asks again");
    let labels = taken(pipe);
    assert_eq!(labels.recv_timeout(PATIENCE).unwrap().trim(), first.mac);

    fs::remove_file(&filler).unwrap();
    await_events(&agent, "label.printed", 1);
    assert_eq!(second.provision(4096).unwrap().status, 200);
    for _ in 1..queued {
        assert_eq!(labels.recv_timeout(PATIENCE).unwrap().trim(), first.mac);
    }
    assert_eq!(labels.recv_timeout(PATIENCE).unwrap().trim(), second.mac);
    let printed = await_events(&agent, "label.printed", queued + 1);
    let jobs: Vec<u64> = printed.iter().map(|label| label["job"].as_u64().unwrap()).collect();
    assert_eq!(jobs, (1..=queued as u64 + 1).collect::<Vec<_>>(), "each once");
    assert!(labels.try_recv().is_err(), "and on paper, too");
    let failed = ["device.failed", "device.interrupted", "label.failed"].map(|name| format!("io.bootline.{name}.v1"));
    let events = agent.events();
    assert!(events.iter().all(|event| !failed.iter().any(|name| event["type"] == name.as_str())), "{events:#?}");
    agent.finish();
}

#[test]
fn a_full_disk_of_temporary_files_holds_up_one_printer_and_nobody_else() {
    let Some(agent) = start("[{name: office, command: [cat, '{file}']}]") else { return };
    with_label(&agent, "office");
    let filler = inside(&agent, "tmp").join("filler");
    fill(&filler);
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(4096).unwrap().status, 200);
    await_events(&agent, "device.provisioned", 1);
    let alarm = await_events(&agent, "station.alarm.raised", 1).remove(0);
    assert_eq!(alarm["code"], "printer.office");
    assert!(alarm["detail"].as_str().unwrap().contains("No space left on device"), "{alarm}");
    let metrics = agent.get("/metrics").text();
    assert!(metrics.contains(r#"bootline_labels_waiting{printer="office"} 1"#), "{metrics}");
    fs::remove_file(&filler).unwrap();
    await_events(&agent, "label.printed", 1);
    await_events(&agent, "station.alarm.cleared", 1);
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = agent.get("/metrics").text();
        let counted = r#"bootline_labels_total{printer="office",outcome="printed"} 1"#;
        if metrics.contains(r#"bootline_labels_waiting{printer="office"} 0"#) && metrics.contains(counted) {
            break;
        }
        assert!(Instant::now() < end, "{metrics}");
    }
    agent.finish();
}
