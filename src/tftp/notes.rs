//! What was served, told to the ledger once a second and address: a download never waits for a commit.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::core::observation::{FileServed, Input, Observation};
use crate::ledger::Ledger;

/// The end of one download, or a file that was not there.
pub struct Note {
    pub address: Ipv4Addr,
    pub file: FileServed,
}

/// Takes a note, or drops it when the ledger is far behind: the timeline of a boot may have a gap, a boot may not.
pub fn leave(notes: &mpsc::Sender<Note>, note: Note) {
    if notes.try_send(note).is_err() {
        metrics::counter!("bootline_tftp_notes_dropped_total").increment(1);
    }
}

/// Collects and submits until the last sender is gone.
pub async fn carry(mut notes: mpsc::Receiver<Note>, ledger: Ledger) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collected: HashMap<Ipv4Addr, Vec<FileServed>> = HashMap::new();
    loop {
        tokio::select! {
            note = notes.recv() => match note {
                Some(Note { address, file }) => collected.entry(address).or_default().push(file),
                None => break,
            },
            _ = second.tick() => submit(&mut collected, &ledger).await,
        }
    }
    submit(&mut collected, &ledger).await;
}

/// All at once, so that one commit takes them.
async fn submit(collected: &mut HashMap<Ipv4Addr, Vec<FileServed>>, ledger: &Ledger) {
    let inputs = collected.drain().map(|(address, files)| async move {
        let input = Input::Observed(Observation::BootFiles { address, files });
        if let Err(why) = ledger.submit(input).await {
            debug!(peer = %address, %why, "boot files go unrecorded");
        }
    });
    join_all(inputs).await;
}

/// Notes that wait for their second; what comes on top is dropped and counted.
pub const WAITING: usize = 4096;
