//! A program of the site that prints: argument by argument, without a shell.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use uuid::Uuid;

use crate::labels::Fault;

/// What is kept of the output.
const KEPT: usize = 2048;
/// In an argument: the path of the label.
const FILE: &str = "{file}";

/// A file of our own, gone with the value.
struct LabelFile(PathBuf);

impl LabelFile {
    fn create(bytes: &[u8]) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("bootline-label-{}", Uuid::new_v4().simple()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self(path);
        file.write_all(bytes)?;
        Ok(made)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LabelFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "a label stays behind");
        }
    }
}

/// All that it has started ends with it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The end of what it has said, when it ends with 0.
pub async fn run(argv: &[String], bytes: &[u8]) -> Result<String, Fault> {
    let file = argv.iter().any(|word| word.contains(FILE)).then(|| LabelFile::create(bytes)).transpose()?;
    let path = file.as_ref().map(|file| file.path().to_string_lossy().into_owned()).unwrap_or_default();
    let mut words = argv.iter().map(|word| word.replace(FILE, &path));
    let program = words.next().unwrap_or_default();
    let mut child = Command::new(&program)
        .args(words)
        .stdin(if file.is_some() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Fault::Refused(format!("{program}: {error}")))?;
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read says by its end how it went.
            let _ = stdin.write_all(bytes).await;
        }
    };
    let ((), said, wrong, ended) = tokio::join!(feed, tail(stdout), tail(stderr), child.wait());
    let said =
        [said, wrong].iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    match ended? {
        status if status.success() => Ok(said),
        status => Err(Fault::Refused(format!("{program} ended with {status}: {said}"))),
    }
}

/// Reads to the end and keeps the last of it.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
    let text = String::from_utf8_lossy(&kept);
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}
