//! The parent's side of a cage: starts the gate, gives it its ids, and ends it.
//!
//! A process may enter a user namespace only while it has one thread, so this program starts itself again for that.
//! The parent writes the id maps: only it can map to an id that is not its own. Real root maps to nobody, because root in
//! the cage would still own the host's `/proc/sysrq-trigger` and everything else that asks for uid 0 alone.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid};
use serde::{Deserialize, Serialize};

use crate::simulator::attend::attend;
use crate::simulator::line::{Line, Said};

/// What a cage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// One simulated device: its own root, and it dies at once when its parent does.
    Device,
    /// The network of a whole demo, with the agent in it: it ends in order.
    Demo,
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Demo => "demo",
        }
    }
}

/// What the gate is told once its ids stand.
#[derive(Debug, Serialize, Deserialize)]
pub struct Admission {
    /// Removed by the gate when all is over, even if the parent was killed.
    pub scratch: Option<PathBuf>,
}

/// A gate and what runs behind it.
#[derive(Debug)]
pub struct Cage {
    gate: Child,
    line: Option<Line>,
}

impl Cage {
    /// Starts a gate and waits until it stands in its own namespaces, with its ids mapped. Nothing runs in it yet.
    pub fn open(purpose: Purpose) -> Result<Self, Refused> {
        let (line, far) = Line::pair().map_err(Refused::Start)?;
        let gate = Command::new("/proc/self/exe")
            .args(["cage", purpose.as_str()])
            .stdin(Stdio::from(OwnedFd::from(far)))
            // The terminal's Ctrl-C is for the parent alone; it decides how the rest ends.
            .process_group(0)
            .spawn()
            .map_err(Refused::Start)?;
        let mut cage = Self { gate, line: Some(line) };
        match cage.hear_within(PATIENCE)? {
            Some(Said::Unshared) => {}
            Some(Said::Refused { why }) => return Err(Refused::Forbidden(why)),
            other => return Err(Refused::Gate(format!("{other:?}"))),
        }
        cage.map_ids().map_err(|error| Refused::Forbidden(format!("cannot map user ids: {error}")))?;
        Ok(cage)
    }

    /// The process that stands for its namespaces.
    pub fn pid(&self) -> u32 {
        self.gate.id()
    }

    /// Lets the gate start its process 1, which reads `brief` as its first message.
    pub fn admit(&mut self, scratch: Option<&Path>, brief: &impl Serialize) -> io::Result<()> {
        let admission = Admission { scratch: scratch.map(Path::to_owned) };
        let line = self.line.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        line.say(&admission)?;
        line.say(brief)
    }

    /// The line, for whoever listens from now on.
    pub fn take_line(&mut self) -> Option<Line> {
        self.line.take()
    }

    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.gate.id()) {
            // It may be gone already, which is what a signal wants.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.gate.try_wait()
    }

    /// Waits for the end; Ctrl-C and its relatives are passed on, once politely and once not.
    pub fn attend(mut self) -> io::Result<ExitStatus> {
        attend(&mut self.gate, LAST_WORDS)
    }

    fn hear_within(&mut self, wait: Duration) -> Result<Option<Said>, Refused> {
        let line = self.line.as_mut().ok_or_else(|| Refused::Gate("no line".to_owned()))?;
        line.limit(Some(wait)).map_err(Refused::Start)?;
        let heard = line.hear().map_err(Refused::Start)?;
        line.limit(None).map_err(Refused::Start)?;
        Ok(heard)
    }

    fn map_ids(&self) -> io::Result<()> {
        let (uid, gid) = outer_ids();
        let folder = PathBuf::from(format!("/proc/{}", self.gate.id()));
        std::fs::write(folder.join("setgroups"), "deny")?;
        std::fs::write(folder.join("uid_map"), format!("0 {uid} 1"))?;
        std::fs::write(folder.join("gid_map"), format!("0 {gid} 1"))
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if matches!(self.gate.try_wait(), Ok(Some(_))) {
            return;
        }
        // Process 1 dies with its gate (PR_SET_PDEATHSIG), and everything in the cage with process 1.
        let _ = self.gate.kill();
        let _ = self.gate.wait();
    }
}

/// Who the root of a cage is outside of it: this user, or nobody where this user is the real root.
pub fn outer_ids() -> (Uid, Gid) {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if geteuid().is_root() && maps(&map, NOBODY) {
        (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY))
    } else {
        (geteuid(), getegid())
    }
}

/// A folder for what the inhabitants of cages write; only they (and root) can enter it. Gone when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> io::Result<Self> {
        Self::at(&std::env::temp_dir().join(format!("bootline-{name}-{}", uuid::Uuid::now_v7().simple())))
    }

    /// A folder that is not there yet.
    pub fn at(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(folder)?;
        give(folder)?;
        Ok(Self(folder.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves it there.
    pub fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Somebody else may have swept it up already.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Hands a file or folder over to the root of the cages.
pub fn give(path: &Path) -> io::Result<()> {
    let (uid, gid) = outer_ids();
    if uid == geteuid() { Ok(()) } else { chown(path, Some(uid.as_raw()), Some(gid.as_raw())) }
}

/// Does a `uid_map` know this id?
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map_while(|field| field.parse::<u64>().ok());
        match (fields.next(), fields.next(), fields.next()) {
            (Some(inside), Some(_), Some(count)) => (inside..inside + count).contains(&u64::from(id)),
            _ => false,
        }
    })
}

/// `nobody`, and as a group `nogroup` or `nobody`, on every Linux.
const NOBODY: u32 = 65534;
/// How long a gate may take to stand in its namespaces.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long everything in a cage may take to end in order; the gate's own limit lies below.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// No cage, so nothing is run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("cannot start a cage")]
    Start(#[source] io::Error),
    #[error("{0}")]
    Forbidden(String),
    #[error("the gate of a cage ended early: {0}")]
    Gate(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_with_one_id_does_not_know_nobody() {
        assert!(!maps("         0       1000          1\n", NOBODY));
        assert!(maps("         0          0 4294967295\n", NOBODY));
        assert!(maps("0 1000 1\n1 100000 65536\n", NOBODY));
        assert!(!maps("", NOBODY));
    }
}
