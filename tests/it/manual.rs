//! The manual names what the program knows: every command, every event, every code of an attempt that did not pass; and
//! its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The quoted words of a file between two marks; a sentence has spaces and is no word.
fn words(path: &str, start: &str, end: &str) -> BTreeSet<String> {
    let source = read(path);
    let (_, rest) = source.split_once(start).unwrap_or_else(|| panic!("{path} has no {start:?}"));
    let (part, _) = rest.split_once(end).unwrap_or_else(|| panic!("{path} has no {end:?} behind {start:?}"));
    part.split('"').skip(1).step_by(2).filter(|word| !word.contains(' ')).map(str::to_owned).collect()
}

/// What of `names` the page does not have as `code`.
fn missing(page: &str, names: &BTreeSet<String>) -> Vec<String> {
    let text = read(page);
    names.iter().filter(|name| !text.contains(&format!("`{name}`"))).cloned().collect()
}

#[test]
fn every_command_event_and_code_is_in_the_manual() {
    let commands = words("src/core/command.rs", "pub const NAMES: ", "];");
    let events = words("src/bus/birth.rs", "const EVENTS: ", "];");
    let codes = words("src/core/advice.rs", "Some(match code {", "_ => return None");
    for (names, one) in [(&commands, "project.create"), (&events, "device.provisioned"), (&codes, "firmware.mismatch")]
    {
        assert!(names.len() > 20 && names.contains(one), "{names:?}");
    }
    for (page, names) in
        [("conf/manual/commands.md", &commands), ("conf/manual/commands.md", &events), ("conf/manual/codes.md", &codes)]
    {
        let missing = missing(page, names);
        assert!(missing.is_empty(), "{page} lacks {missing:?}");
    }
}

/// As the heading of a page is linked to: lower case, dashes for spaces, nothing else but letters, digits and `_`.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let ends = text.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

fn pages() -> Vec<PathBuf> {
    let manual = fs::read_dir(root().join("conf/manual")).unwrap().map(|entry| entry.unwrap().path());
    let others = ["README.md", "bootfiles/README.md", "schemas/README.md"].map(|page| root().join(page));
    manual.chain(others).collect()
}

/// Why a link leads nowhere.
fn fault(page: &Path, link: &str) -> Option<String> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !target.exists() {
        return Some(format!("{}: {link}: there is no such file", page.display()));
    }
    if heading.is_empty() {
        return None;
    }
    let text = fs::read_to_string(&target).unwrap();
    let is_there = text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let heading_text = line.trim_start_matches('#');
        anchor(heading_text) == heading
    });
    (!is_there).then(|| format!("{}: {link}: there is no such heading", page.display()))
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages() {
        let links = links(&fs::read_to_string(&page).unwrap());
        for link in links.iter().filter(|link| !link.contains("://")) {
            count += 1;
            faults.extend(fault(&page, link));
        }
    }
    assert!(count > 50, "{count} links");
    assert!(faults.is_empty(), "{faults:#?}");
}
