//! The disk under the data: how much room it has, and how fast a commit is.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use crate::app::check::finding::Finding;

const SUBJECT: &str = "disk";
/// Room for a few images.
const ROOM: u64 = 10 << 30;
const LITTLE: u64 = 1 << 30;
/// The line goes on at this, and feels it.
const SLOW_COMMIT: Duration = Duration::from_millis(30);
const COMMITS: u32 = 16;
/// What one gigabit brings in.
const SLOW_WRITE: f64 = 40e6;
const SAMPLE: usize = 32 << 20;

pub fn look(data: &Path) -> Vec<Finding> {
    let Some(folder) = existing(data) else {
        return vec![Finding::fault(
            SUBJECT,
            format!("there is no way to {}", data.display()),
            "set data to a folder that can be made",
        )];
    };
    let mut findings = vec![room(&folder)];
    findings.push(match speed(&folder) {
        Ok(speed) => judge(&folder, &speed),
        Err(error) => Finding::fault(
            SUBJECT,
            format!("cannot write in {}: {error}", folder.display()),
            "run this as the user that bootline runs as, and let it own the folder; a full disk says so too",
        ),
    });
    findings
}

/// The folder itself, or the nearest one above it that is there already.
fn existing(data: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(data).ok()?;
    absolute.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn room(folder: &Path) -> Finding {
    let free = match statvfs(folder) {
        Ok(found) => found.blocks_available() * found.fragment_size(),
        Err(error) => return Finding::note(SUBJECT, format!("cannot ask {}: {error}", folder.display()), "nothing"),
    };
    let what = format!("{:.1} GiB are free in {}", bytes(free) / f64::from(1 << 30), folder.display());
    match free {
        0..LITTLE => Finding::fault(SUBJECT, what, "make room: no image fits, and a full disk stops the line"),
        LITTLE..ROOM => Finding::warning(SUBJECT, what, "make room for images, or set data to a larger disk"),
        _ => Finding::ok(SUBJECT, what),
    }
}

struct Speed {
    commit: Duration,
    /// Bytes a second.
    write: f64,
}

/// A file without a name: nothing is left of it, even after a power cut.
fn speed(folder: &Path) -> io::Result<Speed> {
    let mut file = nameless(folder)?;
    let start = Instant::now();
    for _ in 0..COMMITS {
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
    }
    let commit = start.elapsed() / COMMITS;
    let sample = vec![0x5a; 1 << 20];
    let start = Instant::now();
    for _ in 0..SAMPLE >> 20 {
        file.write_all(&sample)?;
    }
    file.sync_data()?;
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    Ok(Speed { commit, write: bytes(u64::try_from(SAMPLE).unwrap_or(u64::MAX)) / seconds })
}

fn nameless(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = File::options();
    options.write(true).custom_flags(nix::libc::O_TMPFILE);
    options.open(folder)
}

fn judge(folder: &Path, speed: &Speed) -> Finding {
    let what = format!(
        "a commit to {} takes {:.1} ms, writing runs at {:.0} MB/s",
        folder.display(),
        speed.commit.as_secs_f64() * 1e3,
        speed.write / 1e6
    );
    if speed.commit > SLOW_COMMIT || speed.write < SLOW_WRITE {
        return Finding::warning(
            SUBJECT,
            what,
            "put data on an SSD: an SD card or a USB stick slows every device down and wears out",
        );
    }
    Finding::ok(SUBJECT, what)
}

/// As a number to divide.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
const fn bytes(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::finding::Level;

    #[test]
    fn a_folder_that_will_be_made_is_judged_by_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(existing(&folder.path().join("a/b")).unwrap(), folder.path());
        look(&folder.path().join("a/b"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn slow_disks_are_told() {
        let level =
            |commit, write| judge(Path::new("/"), &Speed { commit: Duration::from_millis(commit), write }).level;
        assert_eq!(level(2, 200e6), Level::Ok);
        assert_eq!(level(80, 200e6), Level::Warning);
        assert_eq!(level(2, 12e6), Level::Warning);
    }
}
