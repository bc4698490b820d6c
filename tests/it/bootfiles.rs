//! `bootline bootfiles check` and `import`, and a project's boot lines on their way to a device.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::agent::{TestAgent, config};
use crate::http;

/// Exit code, standard output, standard error.
fn bootfiles(config: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
    let output = command.arg("bootfiles").args(args).arg("--config").arg(config).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A made-up `scriptexecute/` of the predecessor.
fn predecessor(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let kernel = [[0; 56].as_slice(), b"ARM\x64", &[0; 100]].concat();
    for (name, bytes) in [
        ("start4.elf", b"\x7fELF..".as_slice()),
        ("fixup4.dat", b"fix"),
        ("kernel.img", &kernel),
        ("scriptexecute.img", b"cpio"),
        ("bcm2711-rpi-cm4.dtb", &[0xd0, 0x0d, 0xfe, 0xed]),
        ("spi-gpio40-45.dtbo", &[0xd0, 0x0d, 0xfe, 0xed]),
        ("cmdline.txt", b"readjumper script=http://172.20.0.1/scriptexecute?serial={serial}\n"),
        ("pieeprom.upd", b"flash"),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn a_folder_of_the_predecessor_is_imported_and_then_boots() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), [80, 80, 69], "{mqtt: off}");
    let (code, _, said) = bootfiles(&config, &["check"]);
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("there is no folder of boot files at"), "{said}");

    let source = folder.path().join("cmprovision/scriptexecute");
    predecessor(&source);
    let source = source.parent().unwrap().to_str().unwrap();
    let (code, dry, said) = bootfiles(&config, &["import", source, "--dry-run"]);
    assert_eq!((code, folder.path().join("bootfiles").exists()), (0, false), "{dry}{said}");
    let (code, said, wrong) = bootfiles(&config, &["import", source]);
    assert_eq!(code, 0, "{said}{wrong}");
    for part in [
        "the predecessor's scriptexecute folder",
        "cmdline.txt: copied to cmdline.txt",
        "172.20.0.1 became {server}",
        "spi-gpio40-45.dtbo: copied to overlays/spi-gpio40-45.dtbo",
        "pieeprom.upd: left, it is never served",
        "7 of 8 files copied",
        "Compute Module 4 (cm4): can boot",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }

    let (code, said, _) = bootfiles(&config, &["check", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["ok"], &report["server"]), (0, &json!(true), &json!("127.0.0.1")), "{said}");
    let (code, said, _) = bootfiles(&config, &["check", "--model", "cm5"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("Compute Module 5 (cm5): cannot boot") && said.contains("no device tree"), "{said}");

    fs::write(folder.path().join("bootfiles/kernel.img"), "other").unwrap();
    let (code, said, _) = bootfiles(&config, &["import", source]);
    assert!(code == 1 && said.contains("kernel.img: left, kernel.img is a different file"), "{code} {said}");
    let (code, _, said) = bootfiles(&config, &["import", source, "--into", "../elsewhere"]);
    assert!(code == 64 && said.contains("../elsewhere"), "{code} {said}");
    let (code, _, said) = bootfiles(&config, &["import", "/dev/null"]);
    assert!(code != 0 && said.contains("/dev/null"), "{code} {said}");
}

#[test]
fn a_project_gives_its_devices_lines_of_their_own_by_every_door() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = agent.image("a.img", &[1; 512]);
    let project =
        json!({"name": "Gateway", "image": image, "active": true, "boot": {"config_txt": "dtoverlay=dwc2\n"}});
    let created = agent.post("/api/v1/projects", &project);
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["project"]["boot"], json!({"config_txt": "dtoverlay=dwc2\n"}));
    let wrong = json!({"name": "project.update", "params": {"project": "gateway", "boot": {"config_txt": "a\rb"}}});
    let reply = agent.post("/api/v1/commands", &wrong).json();
    assert_eq!(reply["error"]["errors"][0]["pointer"], "/params/boot/config_txt", "{reply}");

    fs::write(agent.folder.path().join("bootfiles/boot.img"), "fat").unwrap();
    let url = format!("http://{}/boot/boot.img", agent.devices);
    let head = Command::new("curl").args(["-sSI", "-A", "UefiHttpBoot/1.0", &url]).output().unwrap();
    let head = String::from_utf8_lossy(&head.stdout).to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 3\r\n"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    let answer = http::call(agent.devices, "GET", "/boot/c0ffee12/boot.img", &[], b"").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "fat"));
    assert!(answer.headers.contains("content-length: 3"), "{}", answer.headers);
    agent.finish();
}
