//! How many files this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Each download and each connection is an open file, and the limit that a shell gives, 1024, ends the boots of a full
/// line. The process may lift it up to the hard limit by itself.
pub fn lift_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(WANTED);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
        tracing::warn!(soft, "cannot lift the limit of open files");
    }
}

const WANTED: u64 = 65_536;
