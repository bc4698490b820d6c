//! `bootline schema`: the published contract, written anew from the types.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::cli::exit;
use crate::schema;

/// Writes JSON Schemas, examples and the AsyncAPI document of this version.
///
/// One file for each event, request, reply and state, made from the types of the program, and one example of each. The
/// folder `schemas/` of the source tree holds the same files; what else lies in the folder stays as it is.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  bootline schema /tmp/schemas")]
pub struct Args {
    /// Where to write to
    #[arg(default_value = "schemas")]
    pub folder: PathBuf,
}

pub fn run(args: &Args) -> ExitCode {
    match write(&args.folder) {
        Ok(count) => {
            println!("{count} files in {}", args.folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn write(folder: &Path) -> Result<usize> {
    let (files, missing) = schema::files();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    for stale in ["events", "commands", "replies", "states"] {
        for part in [folder.to_path_buf(), folder.join("examples")] {
            remove_others(&part.join(stale), |path| files.contains_key(path), folder)?;
        }
    }
    for (name, text) in &files {
        let path = folder.join(name);
        let parent = path.parent().expect("a file lies in a folder");
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(files.len())
}

/// A schema of what is no more goes; only files of ours are touched.
fn remove_others(part: &Path, is_kept: impl Fn(&str) -> bool, folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(part) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "json") && !is_kept(&name) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
