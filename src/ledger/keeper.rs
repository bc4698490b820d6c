//! The keeper of the journal: measures it beside the writer, and says what it has measured. What goes is decided in the
//! core and deleted by the writer, a few rows at a time, so that no device waits for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use rusqlite::Connection;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::core::delivery::Extent;
use crate::core::observation::{Input, Observation};
use crate::core::time::Timestamp;
use crate::ledger::{Ledger, SubmitError};
use crate::store::journal::Oldest;
use crate::store::{StoreError, delivery, journal};

/// Between two measures, while there is nothing to delete.
const PACE: Duration = Duration::from_secs(10);
/// Between two deletions: the writer has the rest of the time for devices.
const BREATH: Duration = Duration::from_millis(50);
/// Rows that one question weighs: two readers serve everybody.
const WEIGHED: u32 = 5_000;
/// Answers to commands are kept longer than any of them may be carried out (7 days), and longer than clocks are wrong.
const INBOX: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the configuration says to the keeper.
#[derive(Clone, Debug)]
pub struct Retention {
    /// How long an event that all have read is kept.
    pub keep: Duration,
    /// What the bodies of events may take.
    pub cap_bytes: u64,
    /// Less than this on the disk is an alarm.
    pub low_bytes: u64,
    /// The folder whose disk it is.
    pub data: PathBuf,
}

/// What is known of the weight of the journal.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    bytes: u64,
    /// Rows up to this one are weighed.
    through: u64,
}

pub struct Keeper {
    ledger: Ledger,
    retention: Retention,
    scale: Scale,
}

impl Keeper {
    pub fn new(ledger: Ledger, retention: Retention) -> Self {
        Self { ledger, retention, scale: Scale::default() }
    }

    /// Until `stop`, or until the ledger closes.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), SubmitError> {
        loop {
            let busy = match self.round().await {
                Ok(busy) => busy,
                Err(SubmitError::Closed) => return Ok(()),
                // The ledger says so itself; the next round tries again.
                Err(error) => {
                    tracing::debug!(%error, "the journal was not looked after");
                    false
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(if busy { BREATH } else { PACE }) => {}
            }
        }
    }

    /// One look, and at most one deletion of each kind; true when there is more to do.
    async fn round(&mut self) -> Result<bool, SubmitError> {
        self.weigh().await?;
        let before = self.ledger.delivery().pruned;
        let (extent, rows) = self.measure().await?;
        self.ledger.submit(Input::Observed(Observation::JournalMeasured(extent))).await?;
        let pruned = self.ledger.delivery().pruned;
        let gone: u64 = rows.iter().filter(|row| row.seq <= pruned).map(|row| row.bytes).sum();
        self.scale.bytes = self.scale.bytes.saturating_sub(gone);
        Ok(self.aged_inbox().await? || pruned != before)
    }

    async fn measure(&self) -> Result<(Extent, Vec<Oldest>), SubmitError> {
        let before = self.past(self.retention.keep);
        let acked: Vec<(String, u64)> = {
            let delivery = self.ledger.delivery();
            delivery.sinks.iter().filter(|(_, sink)| sink.bus).map(|(name, sink)| (name.clone(), sink.acked)).collect()
        };
        let (bytes, Retention { cap_bytes, low_bytes, data, .. }) = (self.scale.bytes, self.retention.clone());
        let question = move |connection: &Connection| {
            let rows = journal::oldest(connection)?;
            let aged = rows.iter().take_while(|row| row.at < before).last().map_or(0, |row| row.seq);
            let oldest_rows = rows.last().map_or(0, |row| row.seq);
            let waiting = waiting(connection, &acked)?;
            // A disk that cannot be asked is not low; whoever writes to it will say so.
            let free_bytes =
                statvfs(&data).map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
            Ok((Extent { aged, oldest_rows, bytes, cap_bytes, free_bytes, low_bytes, waiting }, rows))
        };
        self.ledger.readers.ask(question).await
    }

    fn past(&self, ago: Duration) -> Timestamp {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.ledger.now().millis().saturating_sub(ago))
    }

    /// Weighs what has come. After a start that is all there is, in pieces.
    async fn weigh(&mut self) -> Result<(), SubmitError> {
        loop {
            let after = self.scale.through;
            let (bytes, through) =
                self.ledger.readers.ask(move |connection| journal::weigh(connection, after, WEIGHED)).await?;
            self.scale = Scale { bytes: self.scale.bytes + bytes, through };
            if through == after {
                return Ok(());
            }
        }
    }

    async fn aged_inbox(&self) -> Result<bool, SubmitError> {
        let before = self.past(INBOX);
        let aged = self.ledger.readers.ask(move |connection| delivery::is_aged(connection, before)).await?;
        if aged {
            self.ledger.submit(Input::Observed(Observation::InboxAged { before })).await?;
        }
        Ok(aged)
    }
}

fn waiting(connection: &Connection, acked: &[(String, u64)]) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let mut waiting = BTreeMap::new();
    for (name, seq) in acked {
        if let Some(at) = journal::next_at(connection, *seq)? {
            waiting.insert(name.clone(), at);
        }
    }
    Ok(waiting)
}
