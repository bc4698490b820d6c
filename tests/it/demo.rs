//! `bootline demo` as a newcomer runs it: the whole main job, and nothing left behind.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
    command.arg("demo").args(arguments).env("TMPDIR", folder);
    command
}

/// Where the system has no namespaces the demo says so with 77; in CI that is a failure.
fn is_forbidden(code: Option<i32>) -> bool {
    let forbidden = code == Some(77);
    assert!(!forbidden || std::env::var_os("CI").is_none(), "no namespaces in CI");
    forbidden
}

#[test]
fn every_device_of_a_demo_is_provisioned_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let output = demo(folder.path(), &["--devices", "2", "--image-size", "4MiB", "--json"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if is_forbidden(output.status.code()) {
        eprintln!("skipped: {errors}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["devices"], &summary["provisioned"], &summary["failed"]), (&2.into(), &2.into(), &0.into()));
    // Image, project created and activated with an audit each; and per device: discovered, started, two steps begun and
    // completed, provisioned.
    assert!(summary["events"].as_u64().unwrap() >= 5 + 2 * 7, "{summary}");
    assert_eq!(errors.matches("yes").count(), 2, "{errors}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    for signal in ["INT", "KILL"] {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let mut child = demo(folder.path(), &["--devices", "2"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        if !told.any(|line| line.contains("is powered on")) {
            assert!(is_forbidden(child.wait().unwrap().code()), "no device is powered on");
            return;
        }
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        assert!(signal == "KILL" || status.code() == Some(130), "{status}");
        // The other end is open as long as any process of the demo lives; the last one sweeps up.
        assert!(!told.any(|line| line.contains("are provisioned")));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the folder of the demo is left");
    }
}

/// The demo of the real root runs as nobody.
fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}
