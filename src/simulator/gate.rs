//! The gate of a cage: a fresh process with one thread that leaves the host's namespaces and starts process 1 behind it.
//!
//! It stays as the cage's door-keeper: process 1 dies with it, it dies with its parent, and it sweeps up.

use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::simulator::attend::attend;
use crate::simulator::cage::{Admission, Purpose};
use crate::simulator::line::{Line, Said};

/// Runs the gate to its end and gives the exit code of what ran behind it.
pub fn keep(purpose: Purpose) -> ExitCode {
    let kept = Line::inherited().and_then(|mut line| enter(purpose, &mut line));
    match kept {
        Ok(Some((mut child, admission))) => {
            let status = attend(&mut child, grace(purpose));
            if let Some(scratch) = &admission.scratch {
                sweep(scratch);
            }
            status.map_or(ExitCode::FAILURE, exit_code)
        }
        Ok(None) => ExitCode::from(NO_PERMISSION),
        Err(error) => {
            eprintln!("bootline: the gate of a cage: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves the host's namespaces, waits for its ids, starts process 1. Nothing if there is no cage to be had or nobody waits.
fn enter(purpose: Purpose, line: &mut Line) -> io::Result<Option<(Child, Admission)>> {
    SigSet::empty().thread_set_mask()?;
    if let Err(errno) = unshare(namespaces()) {
        line.say(&Said::Refused { why: format!("the system forbids user namespaces ({})", errno.desc()) })?;
        return Ok(None);
    }
    line.say(&Said::Unshared)?;
    let Some(admission) = line.hear::<Admission>()? else {
        return Ok(None);
    };
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    // After the change of ids, which clears it.
    set_pdeathsig(match purpose {
        Purpose::Device => Signal::SIGKILL,
        Purpose::Demo => Signal::SIGTERM,
    })?;
    let child = Command::new("/proc/self/exe").args(["cage", "--inside", purpose.as_str()]).spawn()?;
    Ok(Some((child, admission)))
}

fn namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
}

const fn grace(purpose: Purpose) -> Duration {
    match purpose {
        Purpose::Device => Duration::ZERO,
        Purpose::Demo => Duration::from_secs(15),
    }
}

fn sweep(scratch: &Path) {
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            eprintln!("bootline: cannot remove {}: {error}", scratch.display());
        }
        _ => {}
    }
}

/// The same code to the outside.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// `EX_NOPERM`
const NO_PERMISSION: u8 = 77;
