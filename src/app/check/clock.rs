//! The clock: the times of events are the factory's record.

use std::path::Path;

use jiff::Timestamp;

use crate::app::check::finding::Finding;

const SUBJECT: &str = "clock";
/// A machine without a battery starts at 1970, or at the date of its last shutdown.
const EARLIEST: &str = "2026-01-01T00:00:00Z";

pub fn look(run: &Path, now: &Timestamp) -> Vec<Finding> {
    let earliest: Timestamp = EARLIEST.parse().expect("a constant is a time");
    if *now < earliest {
        return vec![Finding::fault(
            SUBJECT,
            format!("the clock says {now:.0}"),
            "set it (timedatectl set-time), or give the machine a time server: tokens, leases and records depend on it",
        )];
    }
    let keeps = |path: &str| run.join(path).exists();
    if keeps("systemd/timesync/synchronized") || keeps("chrony/chronyd.sock") || keeps("ntpd.pid") {
        return vec![Finding::ok(SUBJECT, format!("{now:.0}, kept by a time server"))];
    }
    vec![Finding::note(
        SUBJECT,
        format!("{now:.0}; no sign that a time server keeps it"),
        "enable systemd-timesyncd or chrony with a server that this machine reaches, so that records of stations agree",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::finding::Level;

    #[test]
    fn a_clock_without_a_battery_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let level = |time: &str| look(folder.path(), &time.parse().unwrap())[0].level;
        assert_eq!(level("1970-01-01T00:00:09Z"), Level::Fault);
        assert_eq!(level("2026-11-24T09:00:00Z"), Level::Note);
        std::fs::create_dir_all(folder.path().join("systemd/timesync")).unwrap();
        std::fs::write(folder.path().join("systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(level("2026-11-24T09:00:00Z"), Level::Ok);
    }
}
