//! Exit codes after sysexits, and how an error is told at the end.

use std::io;
use std::process::ExitCode;

use anyhow::Error;

use crate::telemetry::under_journald;

/// The command did its work, and what it looked at is not as it should be.
pub const FOUND: u8 = 1;
pub const USAGE: u8 = 64;
/// A program that is needed is not there.
pub const UNAVAILABLE: u8 = 69;
pub const SOFTWARE: u8 = 70;
pub const IO: u8 = 74;
pub const NO_PERMISSION: u8 = 77;
pub const CONFIG: u8 = 78;

/// Prints the chain once, as an error where journald reads, and gives the code.
pub fn say(code: u8, error: &Error) -> ExitCode {
    let priority = if under_journald() { "<3>" } else { "" };
    eprintln!("{priority}bootline: {error:#}");
    ExitCode::from(code)
}

/// What kind of failure lies at the bottom.
pub fn code_of(error: &Error) -> u8 {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    let errno = error.chain().find_map(|cause| cause.downcast_ref::<nix::errno::Errno>());
    let forbidden = io.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        || errno.is_some_and(|errno| matches!(errno, nix::errno::Errno::EPERM | nix::errno::Errno::EACCES));
    match (forbidden, io.is_some() || errno.is_some()) {
        (true, _) => NO_PERMISSION,
        (false, true) => IO,
        (false, false) => SOFTWARE,
    }
}
