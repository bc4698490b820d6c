//! A full disk: nothing is acknowledged that is not written, and the station goes on when there is room again.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::agent::{TestAgent, sequence};
use crate::board::{FakeBoard, sha256};
use crate::fetch::{Found, Site, fetched, listener, serve};
use crate::http;

/// The agent with its data on a small disk of its own, in a mount namespace that goes with it. None where that is
/// forbidden; with `CI=true` that is a failure.
fn start() -> Option<TestAgent> {
    // The network stays that of the machine: the agent takes its address on lo there.
    let enter = ["--mount"];
    let allowed = Command::new("unshare").args(enter).arg("true").status().is_ok_and(|status| status.success());
    if !allowed {
        assert!(std::env::var_os("CI").is_none(), "a mount namespace is needed and forbidden here");
        eprintln!("skipped: mount namespaces are forbidden here");
        return None;
    }
    Some(TestAgent::start_by("{mqtt: off}", move |folder| {
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        let script = "mount -t tmpfs -o size=12m,mode=0700 none \"$1\" && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(enter).args(["sh", "-c", script, "sh"]).arg(data).arg(env!("CARGO_BIN_EXE_bootline"));
        command.env("BOOTLINE__IMAGES__RESERVE", "1MiB");
        command
    }))
}

/// The data folder as the agent sees it.
fn inside(agent: &TestAgent) -> PathBuf {
    let folder = agent.folder.path().join("data");
    PathBuf::from(format!("/proc/{}/root{}", agent.process(), folder.display()))
}

#[test]
fn a_full_disk_stops_everything_in_order_and_room_heals_it() {
    let Some(agent) = start() else { return };
    agent.project("Gateway", &agent.image("a.img", &[3; 4096]));
    let before = agent.events();
    let filler = inside(&agent).join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 65536]).is_ok() {}
    // The last bytes too.
    while file.write_all(&[1; 512]).is_ok() {}

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
    drop(file);
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
    let Some(agent) = start() else { return };
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
        let kept: Vec<_> = fs::read_dir(inside(&agent).join("images/fetch")).unwrap().flatten().collect();
        assert!(kept.is_empty(), "{path}: {kept:?}");
    }
    let job = fetched(&agent, &format!("http://{address}/fits.img"));
    assert_eq!((&job["state"], &job["image"]), (&json!("succeeded"), &json!(sha256(&fits))), "{job}");
    agent.project("Gateway", &sha256(&fits));
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(1 << 20).unwrap().status, 200);
    agent.finish();
}
