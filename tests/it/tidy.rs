//! The walls of the house: which room may import which, and the size and shape of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Room, and what it may import of the house. Change it only together with the reason.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("telemetry", &[]),
    // Whose certificates are good, for everyone who calls by TLS.
    ("trust", &[]),
    ("script", &["core"]),
    ("store", &["core"]),
    // Files and names, no protocol: tftp and http serve the same ones, cli checks and imports them.
    ("bootfiles", &["core"]),
    ("ledger", &["core", "store"]),
    ("images", &["core", "ledger", "trust"]),
    ("firmware", &["core", "ledger"]),
    ("dhcp", &["core", "ledger"]),
    ("tftp", &["core", "ledger", "bootfiles"]),
    ("netconsole", &["core", "ledger"]),
    ("switches", &["core", "ledger"]),
    ("labels", &["core", "ledger", "trust"]),
    ("bus", &["core", "ledger"]),
    ("metrics", &["core", "ledger"]),
    ("http", &["core", "ledger", "bootfiles", "images", "firmware", "script", "metrics"]),
    ("config", &["core", "dhcp", "tftp", "netconsole", "images", "switches", "labels", "http", "bus"]),
    // Of dhcp and tftp only the pure files, see PURE.
    ("simulator", &["core", "dhcp", "tftp"]),
    (
        "app",
        &[
            "core",
            "script",
            "store",
            "bootfiles",
            "ledger",
            "images",
            "firmware",
            "dhcp",
            "tftp",
            "netconsole",
            "switches",
            "labels",
            "bus",
            "metrics",
            "http",
            "config",
            "telemetry",
        ],
    ),
    // What is published of the types: of the core, the envelope of the ledger, the states of the bus.
    ("schema", &["core", "ledger", "bus"]),
    ("cli", &["app", "config", "simulator", "schema", "bootfiles", "core", "telemetry", "trust"]),
    // Doors for random bytes, on the roof because every parser has one; of the drivers only the pure files.
    ("fuzz", &["core", "bootfiles", "dhcp", "tftp", "netconsole"]),
    // The roof: main.rs calls one function of lib.rs, which names the rooms.
    ("lib", &["cli"]),
];

/// What the simulator may see of the two protocol rooms.
const PURE: [&str; 3] = ["dhcp::packet", "dhcp::pi", "tftp::packet"];

/// Crates of runtime, socket, file and log that the pure rooms never name.
const IMPURE: [&str; 9] =
    ["tokio", "rusqlite", "axum", "tracing", "rumqttc", "async_nats", "std::fs", "std::net::Tcp", "std::net::Udp"];
const PURE_ROOMS: [&str; 3] = ["core", "script", "bootfiles"];
/// Files inside driver rooms that stay plain functions.
const PURE_FILES: &[&str] = &[
    "dhcp/packet.rs",
    "dhcp/pi.rs",
    "dhcp/arp.rs",
    "dhcp/circuit.rs",
    "dhcp/boot.rs",
    "dhcp/answer.rs",
    "tftp/burst.rs",
    "tftp/packet.rs",
    "tftp/transfer.rs",
    "netconsole/frame.rs",
    "netconsole/lines.rs",
    "bus/topic.rs",
    "images/library.rs",
    "firmware/library.rs",
    "images/partial.rs",
    "images/decode.rs",
    "images/survey.rs",
    "images/table.rs",
];

const LONGEST: usize = 600;

struct Source {
    /// Below `src`: `core/floor/mod.rs`
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().expect("a path has a first part");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The file without its test module, which stands last.
    fn production(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests {").next().expect("split gives one part at least")
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).expect("a source file reads"),
            path: path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned(),
        })
        .collect()
}

/// Every `crate::a::b` of a text, comments left out.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for part in line.split("crate::").skip(1) {
            let path: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':').collect();
            names.insert(path.trim_end_matches(':').to_owned());
        }
        if let Some(rest) = line.trim_start().strip_prefix("use crate::{") {
            names.extend(rest.trim_end_matches("};").split(',').map(|name| name.trim().to_owned()));
        }
    }
    names.remove("");
    names
}

#[test]
fn every_arrow_runs_down() {
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path != "main.rs" && !source.is_test()) {
        let room = source.room();
        let Some(allowed) = table.get(room) else {
            wrong.push(format!("{}: room {room} is not in the table", source.path));
            continue;
        };
        for name in named(source.production()) {
            let target = name.split("::").next().expect("one part at least");
            if target != room && !allowed.contains(&target) {
                wrong.push(format!("{}: crate::{name}", source.path));
            }
            let pure = PURE.iter().any(|pure| name.starts_with(pure));
            if room == "simulator" && ["dhcp", "tftp"].contains(&target) && !pure {
                wrong.push(format!("{}: crate::{name} is a driver", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the table does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_and_files_stay_pure() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let pure = PURE_ROOMS.contains(&source.room()) || PURE_FILES.contains(&source.path.as_str());
        // These are about files; of runtime and clock they stay free.
        let files = ["images/library.rs", "images/partial.rs", "firmware/library.rs"].contains(&source.path.as_str())
            || source.room() == "bootfiles";
        for line in source.production().lines().filter(|line| pure && !line.trim_start().starts_with("//")) {
            let names = |name: &&&str| line.contains(&format!("{name}::")) || line.contains(&format!("use {name}"));
            if let Some(name) = IMPURE.iter().find(names).filter(|name| !(files && **name == "std::fs")) {
                wrong.push(format!("{}: {name}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_pure_file_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in PURE_FILES {
        assert!(root.join(file).exists(), "{file} has moved; the wall must move with it");
    }
}

#[test]
fn files_say_what_they_are_and_stay_readable() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{}: {lines} lines, at most {LONGEST}", source.path));
        }
        if !source.text.starts_with("//!") {
            wrong.push(format!("{}: does not open with what it is (//!)", source.path));
        }
        if !source.is_test() && source.production().contains("use super::") {
            wrong.push(format!("{}: use super:: outside of tests", source.path));
        }
        if source.text.contains("todo!(") || source.text.contains("unimplemented!(") {
            wrong.push(format!("{}: unfinished", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_test_sleeps() {
    let mut wrong = Vec::new();
    for source in sources() {
        let tests = if source.is_test() { source.text.as_str() } else { &source.text[source.production().len()..] };
        if tests.contains("thread::sleep") || tests.contains("time::sleep(") {
            wrong.push(source.path);
        }
    }
    assert!(wrong.is_empty(), "sleeping tests: {wrong:?}");
}
