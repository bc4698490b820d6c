//! Progress of running steps for a bus: the newest of each device, once a second, and nothing is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::core::device::Mac;
use crate::core::view::Telemetry;

/// At most one message a device in this time.
const PACE: Duration = Duration::from_secs(1);

/// Collects what devices report between two beats.
pub struct Progress {
    reports: broadcast::Receiver<Telemetry>,
    beat: Interval,
    /// As many entries as devices reported within one beat.
    newest: BTreeMap<Mac, Telemetry>,
}

impl Progress {
    pub fn new(reports: broadcast::Receiver<Telemetry>) -> Self {
        let mut beat = interval(PACE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { reports, beat, newest: BTreeMap::new() }
    }

    /// What to publish next, at least one report; nothing once the ledger is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Telemetry>> {
        loop {
            tokio::select! {
                biased; // A beat takes along everything that is there.
                report = self.reports.recv() => match report {
                    Ok(report) => {
                        self.newest.insert(report.mac, report);
                    }
                    // Too slow: the older reports are worth nothing by now.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                _ = self.beat.tick(), if !self.newest.is_empty() => {
                    return Some(std::mem::take(&mut self.newest).into_values().collect());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::core::session::StepName;
    use crate::core::time::Timestamp;

    fn report(mac: &str, percent: u8) -> Telemetry {
        Telemetry {
            v: 1,
            mac: mac.parse().unwrap(),
            session: serde_json::from_str("\"0199f3a0-0000-7000-8000-000000000001\"").unwrap(),
            attempt: 1,
            step: StepName::Write,
            bytes: u64::from(percent),
            bytes_total: 100,
            percent,
            at: Timestamp::from_millis(0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_is_published_once_a_second_with_its_newest_report() {
        let (reports, receiver) = broadcast::channel(64);
        let mut progress = Progress::new(receiver);
        for percent in 1..=9 {
            reports.send(report("dca632010203", percent)).unwrap();
        }
        reports.send(report("dca632010204", 50)).unwrap();
        let start = Instant::now();
        let first = progress.next().await.unwrap();
        assert_eq!(first.iter().map(|report| report.percent).collect::<Vec<_>>(), [9, 50]);
        reports.send(report("dca632010203", 10)).unwrap();
        assert_eq!(progress.next().await.unwrap().len(), 1);
        assert!(start.elapsed() >= PACE);
        drop(reports);
        assert_eq!(progress.next().await, None);
    }
}
