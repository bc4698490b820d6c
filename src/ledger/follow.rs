//! Followers: each reads the journal from its own place, live and replay by the same code.

use std::sync::Arc;

use tokio::sync::watch;

use crate::ledger::read::Readers;
use crate::ledger::recent::Recent;
use crate::ledger::{Recorded, SubmitError};
use crate::store::journal;

/// So many events at a time.
const PAGE: u32 = 256;

pub struct Follower {
    pub(super) readers: Readers,
    pub(super) recent: Arc<Recent>,
    pub(super) news: watch::Receiver<u64>,
    pub(super) seq: u64,
}

impl Follower {
    /// The last event that was handed out.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The next events in order, at least one, at most 256. Waits while there is nothing new. Cancel-safe: the place
    /// moves only when events are handed out.
    pub async fn next(&mut self) -> Result<Vec<Recorded>, SubmitError> {
        loop {
            if *self.news.borrow_and_update() > self.seq {
                let after = self.seq;
                let page = match self.recent.after(after, PAGE as usize) {
                    Some(page) => page,
                    None => self.readers.ask(move |connection| journal::read(connection, after, PAGE)).await?,
                };
                if let Some(last) = page.last() {
                    self.seq = last.seq;
                    return Ok(page);
                }
            }
            // The writer drops its end when it stops; what it had announced was read before.
            self.news.changed().await.map_err(|_| SubmitError::Closed)?;
        }
    }
}
