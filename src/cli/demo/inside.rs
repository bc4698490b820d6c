//! Process 1 of the demo: makes itself at home in its namespaces, then lets the journey begin.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::cli::demo::{Brief, forbidden, journey};
use crate::cli::exit;
use crate::cli::interrupt::interrupted;
use crate::simulator::line::Line;

pub fn run() -> ExitCode {
    let begun = Line::inherited().and_then(|mut line| {
        SigSet::empty().thread_set_mask()?;
        set_pdeathsig(Signal::SIGKILL)?;
        Ok((line.hear::<Brief>()?, line))
    });
    let (brief, line) = match begun {
        Ok((Some(brief), line)) => (brief, line),
        Ok((None, _)) => return ExitCode::FAILURE,
        Err(error) => return exit::say(exit::IO, &error.into()),
    };
    if let Err(error) = settle() {
        return forbidden(&error.to_string());
    }
    match live(brief, line) {
        Ok(code) => code,
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

/// `/proc` and `/sys` must show the new namespaces.
fn settle() -> io::Result<()> {
    let still = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("proc"), "/proc", Some("proc"), still, None::<&str>)?;
    // Only for people who look around in it; some containers do not allow it.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), still | MsFlags::MS_RDONLY, None::<&str>);
    Ok(())
}

fn live(brief: Brief, line: Line) -> Result<ExitCode> {
    // One thread: devices die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut journey = Box::pin(journey::travel(brief));
        tokio::select! {
            code = &mut journey => code,
            code = interrupted() => Ok(code?),
            gone = alone(line) => {
                gone?;
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// Ends when the one who started the demo is gone.
async fn alone(line: Line) -> io::Result<()> {
    let stream = line.into_stream();
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
