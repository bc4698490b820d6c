//! Any names into `bootline::fuzz::path`, in a folder that links lead out of.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a folder for boot files").keep();
    bootline::fuzz::prepare_folder(&root).expect("boot files");
    root
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bootline::fuzz::path(&ROOT, bytes));
