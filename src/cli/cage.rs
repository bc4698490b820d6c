//! `bootline cage`: how this program starts itself behind the scenes of `demo` and `simulate`; not for people.

use std::process::ExitCode;

use crate::cli::demo;
use crate::simulator::cage::Purpose;
use crate::simulator::{device, gate};

#[derive(Debug, clap::Args)]
pub struct Args {
    purpose: Purpose,
    /// As process 1 behind the gate.
    #[arg(long)]
    inside: bool,
}

/// Must be called before any thread exists: a process with threads cannot enter a user namespace.
pub fn run(args: &Args) -> ExitCode {
    match (args.inside, args.purpose) {
        (false, purpose) => gate::keep(purpose),
        (true, Purpose::Device) => device::live(),
        (true, Purpose::Demo) => demo::inside(),
    }
}
