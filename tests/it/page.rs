//! The web page in headless Chromium, against the built agent: `tests/page` holds the tests, node runs them.

use std::path::Path;
use std::process::Command;

/// Screenshots of a run lie in `target/page`.
fn browse(file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let there = folder.join("node_modules/playwright-core/package.json").exists();
    assert!(there, "tests/page is not set up: tests/run installs what the tests need");
    let output = Command::new("node")
        .args(["--test", file])
        .current_dir(&folder)
        .env("BOOTLINE", env!("CARGO_BIN_EXE_bootline"))
        .env_remove("PAGE_FILES")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    // A file without a test would pass too.
    assert!(!told.contains("# tests 0") && !told.contains("tests 0\n"), "{told}");
}

#[test]
fn the_line_is_followed() {
    browse("line.test.js");
}

#[test]
fn projects_rules_images_and_the_history_are_managed() {
    browse("manage.test.js");
}

#[test]
fn every_view_reads_well_and_axe_finds_nothing_serious() {
    browse("look.test.js");
}

#[test]
fn three_hundred_devices_report_five_times_a_second() {
    browse("load.test.js");
}
