//! A station is backed up while it works, and restored: everything is there, and consumers see that it is another life.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};

use crate::agent::{TestAgent, sequence};
use crate::board::FakeBoard;

fn bootline(verb: &str, file: &Path, data: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
    command.arg(verb).arg(file).arg("--data").arg(data).args(more).env_remove("RUST_LOG").output().unwrap()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn says(output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(words), "{words:?} in {text}");
}

fn data(agent: &TestAgent) -> PathBuf {
    agent.folder.path().join("data")
}

#[test]
fn a_working_station_is_backed_up_and_comes_back_with_another_epoch() {
    let mut agent = TestAgent::start("{mqtt: off}");
    let image = agent.image("a.img", &[3; 65536]);
    agent.project("Gateway", &image);
    let file = agent.folder.path().join("st-01.tar");
    // Devices go on meanwhile.
    let devices = agent.devices;
    let work = thread::spawn(move || {
        for n in 0..10 {
            assert_eq!(FakeBoard::new(devices, n).provision(65536).unwrap().status, 200);
        }
    });
    let made = json_of(&bootline("backup", &file, &data(&agent), &["--json"]));
    work.join().unwrap();
    says(&bootline("backup", &file, &data(&agent), &[]), "overwrites nothing");
    let listing = Command::new("tar").arg("tf").arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listing.stdout), "manifest.json\nbootline.db\n");
    assert_eq!((&made["images"][0]["sha256"], &made["images"][0]["included"]), (&json!(image), &json!(false)));
    let left: Vec<_> = fs::read_dir(agent.folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with("part")), "{left:?}");

    let before = agent.events();
    let epoch = before[0]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(made["epoch"], epoch.as_str());
    says(&bootline("restore", &file, &data(&agent), &["--replace"]), "another bootline uses");
    assert!(agent.stop().success());
    says(&bootline("restore", &file, &data(&agent), &[]), "--replace");
    // The image is gone, as on a new machine.
    fs::remove_file(data(&agent).join("images").join(&image)).unwrap();
    let restored = json_of(&bootline("restore", &file, &data(&agent), &["--replace", "--json"]));
    assert_eq!(restored["missing"][0]["sha256"], image.as_str());
    assert!(Path::new(restored["replaced"].as_str().unwrap()).join("bootline.db").exists());

    agent.restart();
    let events = agent.events();
    let newest = usize::try_from(made["newest_sequence"].as_u64().unwrap()).unwrap();
    assert_eq!(events[..newest], before[..newest], "the journal as it was");
    let fresh = &events[newest];
    assert_eq!(sequence(fresh), newest as u64 + 1);
    assert_ne!(fresh["epoch"], epoch.as_str(), "a sequence that may have been given before has another epoch");
    assert_eq!(fresh["epoch"], restored["epoch"]);
    let shown = agent.get(&format!("/api/v1/images/{image}")).json();
    assert_eq!(shown["image"]["state"], "damaged", "{shown}");
    let board = FakeBoard::new(agent.devices, 99);
    assert!(board.ask(65536).unwrap().text().contains("image_damaged"), "no device gets what is not there");
    agent.image("a.img", &[3; 65536]);
    assert_eq!(board.provision(65536).unwrap().status, 200);
    agent.finish();
}

#[test]
fn a_backup_with_images_makes_a_whole_station_elsewhere() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = agent.image("a.img", &[3; 65536]);
    agent.project("Gateway", &image);
    let file = agent.folder.path().join("whole.tar");
    json_of(&bootline("backup", &file, &data(&agent), &["--with-images", "--json"]));
    agent.finish_keeping(|folder| {
        let mut other = TestAgent::start("{mqtt: off}");
        assert!(other.stop().success());
        fs::remove_dir_all(data(&other)).unwrap();
        let file = folder.join("whole.tar");
        let restored = json_of(&bootline("restore", &file, &data(&other), &["--json"]));
        assert_eq!(restored["missing"], json!([]));
        other.restart();
        assert_eq!(FakeBoard::new(other.devices, 1).provision(65536).unwrap().status, 200);
        other.finish();
    });
}

#[test]
fn a_broken_backup_is_refused_and_touches_nothing() {
    let mut agent = TestAgent::start("{mqtt: off}");
    agent.image("a.img", &[3; 65536]);
    let file = agent.folder.path().join("st-01.tar");
    json_of(&bootline("backup", &file, &data(&agent), &["--with-images", "--json"]));
    let before = agent.events();
    assert!(agent.stop().success());
    let whole = fs::read(&file).unwrap();
    let broken = agent.folder.path().join("broken.tar");
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    for (bytes, words) in [
        (flipped, "sha256"),
        (whole[..middle].to_vec(), "cannot restore"),
        (b"PK no tar at all".to_vec(), "not a backup"),
        (vec![b'x'; 2048], "not a backup"),
    ] {
        fs::write(&broken, bytes).unwrap();
        says(&bootline("restore", &broken, &data(&agent), &["--replace"]), words);
    }
    // A restore that died half way keeps the agent from starting on what is there.
    fs::create_dir(data(&agent).join("restore")).unwrap();
    let (code, text) = crate::agent::refused(&agent.folder.path().join("bootline.yml"));
    assert!(code != 0 && text.contains("run bootline restore again"), "{text}");
    fs::remove_dir(data(&agent).join("restore")).unwrap();
    agent.restart();
    assert_eq!(agent.events()[..before.len()], before);
    agent.finish();
}
