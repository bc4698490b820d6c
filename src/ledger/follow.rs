//! Followers: each reads the journal from its own place, live and replay by the same code.

use crate::ledger::{Recorded, SubmitError};

pub struct Follower {}

impl Follower {
    /// The next events in order, at least one, at most 256. Waits while there is nothing new. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Recorded>, SubmitError> {
        unimplemented!()
    }
}
