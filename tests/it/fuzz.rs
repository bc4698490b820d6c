//! What the fuzzer and people have thought of so far, through the same doors on every run: the corpora of `tests/fuzz` and
//! the packets of `tests/vectors`. `tests/long` lets the fuzzer invent more.

use std::fs;
use std::path::{Path, PathBuf};

use bootline::fuzz;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Says which file it was, because the doors know only bytes.
fn replay(door: impl Fn(&[u8]), folder: &str) {
    let files = files(folder);
    assert!(!files.is_empty(), "{folder} is empty");
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let bytes = if path.extension().is_some_and(|kind| kind == "hex") { unhex(&bytes) } else { bytes };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| door(&bytes)));
        assert!(ran.is_ok(), "{}", path.display());
    }
}

/// Hex digits, blanks, and lines that begin with `#`.
fn unhex(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let digits: Vec<char> = digits.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

#[test]
fn the_corpora_of_the_fuzzer_break_nothing() {
    replay(fuzz::dhcp, "fuzz/corpus/dhcp");
    replay(fuzz::option82, "fuzz/corpus/option82");
    replay(fuzz::tftp, "fuzz/corpus/tftp");
    replay(fuzz::netconsole, "fuzz/corpus/netconsole");
    replay(fuzz::command, "fuzz/corpus/command");
    let root = tempfile::tempdir().unwrap();
    fuzz::prepare_folder(root.path()).unwrap();
    replay(|bytes| fuzz::path(root.path(), bytes), "fuzz/corpus/path");
}

#[test]
fn real_packets_at_the_wrong_door_break_nothing() {
    for folder in ["vectors/dhcp", "vectors/tftp"] {
        for door in [fuzz::dhcp, fuzz::option82, fuzz::tftp, fuzz::netconsole, fuzz::command] {
            replay(door, folder);
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_place_in_the_crate() {
    let names = |folder: &str| -> Vec<String> {
        files(folder).iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let targets = names("fuzz/fuzz_targets");
    assert_eq!(targets, names("fuzz/corpus"));
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
}
