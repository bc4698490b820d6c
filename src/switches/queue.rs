//! Requests for power under way: those for one place one after the other, in the order in which they were asked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::core::slot::SlotName;
use crate::switches::desk::{Desk, When};
use crate::switches::{AT_ONCE, PowerWanted};

pub struct Queue {
    desk: Arc<Desk>,
    stop: CancellationToken,
    work: JoinSet<u64>,
    /// Places in the journal of requests that are not done.
    open: BTreeSet<u64>,
    /// Closed when the newest request for the place is done.
    newest: HashMap<SlotName, oneshot::Receiver<()>>,
}

impl Queue {
    pub fn new(desk: Arc<Desk>, stop: CancellationToken) -> Self {
        Self { desk, stop, work: JoinSet::new(), open: BTreeSet::new(), newest: HashMap::new() }
    }

    /// Waits while there are too many.
    pub async fn begin(&mut self, seq: u64, wanted: PowerWanted, when: When) {
        while self.work.len() >= AT_ONCE {
            self.next().await;
        }
        let (end, ended) = oneshot::channel::<()>();
        let before = self.newest.insert(wanted.slot.clone(), ended);
        let (desk, stop) = (Arc::clone(&self.desk), self.stop.clone());
        self.open.insert(seq);
        self.work.spawn(async move {
            if let Some(before) = before {
                // Nothing is sent: it ends with its sender.
                let _ = before.await;
            }
            desk.power(wanted, when, &stop).await;
            drop(end);
            seq
        });
    }

    /// Until one is done; false when there is none. Cancel-safe: what is done stays in the set until it is taken.
    pub async fn next(&mut self) -> bool {
        match self.work.join_next().await {
            Some(done) => {
                if let Ok(seq) = done {
                    self.open.remove(&seq);
                }
                true
            }
            None => false,
        }
    }

    /// Up to where in the journal everything is done, of what was read up to `seen`.
    pub fn done_up_to(&self, seen: u64) -> u64 {
        self.open.first().map_or(seen, |first| first - 1)
    }

    /// The rest: a port that is without power in the middle of its cycle gets it back.
    pub async fn finish(&mut self) {
        while self.next().await {}
    }
}
