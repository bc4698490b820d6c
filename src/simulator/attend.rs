//! Waiting for one child in a process without threads, with an ear for signals.

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// Waits for the child. A wish to end is passed on; after `grace`, or at the second wish, the child is killed.
pub fn attend(child: &mut Child, grace: Duration) -> io::Result<ExitStatus> {
    let wanted = hold_signals()?;
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
            let wish = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            let Some(wish) = wish.filter(|wish| *wish != Signal::SIGCHLD) else {
                continue;
            };
            deadline = Some(deadline.map_or_else(|| Instant::now() + grace, |_| Instant::now()));
            if let Ok(pid) = i32::try_from(child.id()) {
                // It may be gone already, which is what the signal wants.
                let _ = kill(Pid::from_raw(pid), wish);
            }
        }
    }
}

/// From now on these signals wait until `attend` looks at them.
pub fn hold_signals() -> io::Result<SigSet> {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    Ok(wanted)
}
