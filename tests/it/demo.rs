//! `bootline demo` as a newcomer runs it: the whole main job, and nothing left behind.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

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
        let mut child = demo(folder.path(), &["--devices", "2"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        // The first medium is there once the devices are powered on.
        let begun = Instant::now();
        while !has_medium(folder.path()) {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(is_forbidden(status.code()), "{status}");
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "no device is powered on");
            std::thread::yield_now();
        }
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        assert!(signal == "KILL" || status.code() == Some(130), "{status}");
        // After a kill the gate sweeps up by itself.
        while std::fs::read_dir(folder.path()).unwrap().count() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(180), "the folder of the demo is left");
            std::thread::yield_now();
        }
    }
}

/// The demo of the real root runs as nobody.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

fn has_medium(folder: &Path) -> bool {
    let Some(Ok(demo)) = std::fs::read_dir(folder).unwrap().next() else {
        return false;
    };
    let files = std::fs::read_dir(demo.path()).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_string_lossy().ends_with(".medium"))
}
