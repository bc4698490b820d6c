//! The gate of a cage: a fresh process with one thread that leaves the host's namespaces and starts process 1 behind it.
//!
//! It stays as the cage's door-keeper: process 1 dies with it, it dies with its parent, and it sweeps up.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

use crate::simulator::cage::{Admission, Purpose};
use crate::simulator::line::{Line, Said};

/// Runs the gate to its end and gives the exit code of what ran behind it.
pub fn keep(purpose: Purpose) -> ExitCode {
    let kept = Line::inherited().and_then(|mut line| enter(purpose, &mut line));
    match kept {
        Ok(Some((child, admission))) => {
            let status = watch(purpose, child);
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

/// Waits for process 1. SIGTERM asks it to end, and ends it when it has not after a while.
fn watch(purpose: Purpose, mut child: Child) -> io::Result<ExitStatus> {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut deadline: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            child.kill()?;
            return child.wait();
        }
        let wait = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Some(signal) = signals.read_signal()? {
            if i32::try_from(signal.ssi_signo) == Ok(Signal::SIGCHLD as i32) {
                continue;
            }
            deadline.get_or_insert_with(|| Instant::now() + grace(purpose));
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }
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

fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// `EX_NOPERM`
const NO_PERMISSION: u8 = 77;
