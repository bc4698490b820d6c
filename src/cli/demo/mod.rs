//! `bootline demo`: the whole main job on one machine, without hardware, without root, and without traces.
//!
//! ```text
//! bootline demo        here: looks for tools, makes a folder, waits, sweeps up
//! └ gate               leaves the host's namespaces
//!   └ inside           process 1 of the demo's network: bridge, image, project, devices, table
//!     ├ bootline run   the agent, as anyone would start it
//!     └ gate └ device  each in a cage of its own
//! ```

mod bus;
mod image;
mod inside;
mod journey;
mod screen;
mod show;
mod station;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cli::size::Size;
use crate::cli::{exit, tools};
use crate::simulator::attend::hold_signals;
use crate::simulator::cage::{Cage, Purpose, Refused, Scratch};
use crate::simulator::gate::exit_code;
use crate::simulator::line::in_full;

pub use crate::cli::demo::inside::run as inside;

/// The whole main job on this machine, without hardware and without root.
///
/// Makes a network of its own, starts the agent with its embedded broker, makes a small disk image, creates and
/// activates a project over MQTT, boots simulated devices over DHCP, TFTP and HTTP, and compares what they have
/// written with the image, byte for byte. Leaves nothing behind. The exit code is 0 only if every device is right.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(after_help = "Example:\n  bootline demo --devices 10 --image-size 64MiB")]
pub struct Args {
    /// How many devices
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=200))]
    devices: u16,
    /// Size of the disk image
    #[arg(long, default_value = "16MiB")]
    image_size: Size,
    /// Seconds that all of it may take
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// A machine-readable result as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Leave the folder with database, logs, image and media
    #[arg(long)]
    keep: bool,
}

/// What the process inside is told.
#[derive(Debug, Serialize, Deserialize)]
struct Brief {
    args: Args,
    folder: PathBuf,
}

/// Must be called before any thread exists.
pub fn run(args: Args) -> ExitCode {
    if let Some(complaint) = tools::missing() {
        eprintln!("bootline: {complaint}");
        return ExitCode::from(exit::UNAVAILABLE);
    }
    match supervise(args) {
        Ok(code) => code,
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn supervise(args: Args) -> Result<ExitCode> {
    hold_signals().context("cannot hold signals")?;
    let scratch = Scratch::new("demo").context("cannot make a temporary folder")?;
    let mut cage = match Cage::open(Purpose::Demo) {
        Ok(cage) => cage,
        Err(refused @ Refused::Forbidden(_)) => return Ok(forbidden(&in_full(&refused))),
        Err(error) => return Err(error.into()),
    };
    let keep = args.keep;
    let brief = Brief { args, folder: scratch.path().to_owned() };
    let swept_by_gate = (!keep).then(|| scratch.path());
    cage.admit(swept_by_gate, &brief).context("cannot begin the demo")?;
    let status = cage.attend().context("cannot wait for the demo")?;
    if keep {
        eprintln!("everything is left in {}", scratch.path().display());
        scratch.keep();
    }
    Ok(exit_code(status))
}

/// One sentence, and what to do instead.
fn forbidden(why: &str) -> ExitCode {
    let instead = if nix::unistd::geteuid().is_root() {
        "run it on a machine of its own or in a container with --privileged"
    } else {
        "run it as root (sudo bootline demo)"
    };
    eprintln!("bootline: the demo needs namespaces of its own, and cannot have them here ({why}); {instead}");
    ExitCode::from(exit::NO_PERMISSION)
}
