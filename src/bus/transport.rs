//! What the relay asks of a way out: the one trait of our own. MQTT, NATS and a fake in memory have it.

use std::future::Future;

use crate::ledger::Recorded;

/// A connection to a broker that takes events and says for each what became of it.
///
/// Whatever a transport or the library below it still holds when a connection ends is forgotten: the relay sends
/// it again from the journal. A library that sends it again by itself brings it out of order.
pub trait Transport: Send {
    /// Makes one attempt at a fresh connection.
    fn connect(&mut self) -> impl Future<Output = Result<Terms, Lost>> + Send;

    /// Why the last attempt was turned away, if somebody has to act (a login, a right, a stream is missing). Nothing if
    /// the broker was only not there.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// Hands over an event; returns before it is acknowledged. Called only while the window has room.
    fn publish(&mut self, event: &Recorded) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Waits for the next verdict, or for the end of the connection; for ever when nothing is on the way.
    /// Cancel-safe.
    fn verdict(&mut self) -> impl Future<Output = Result<Verdict, Lost>> + Send;

    /// Ends the connection, if there is one; what is on the way may be lost.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// What was agreed on when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many events may be on the way at once.
    pub window: usize,
}

/// What became of an event that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub seq: u64,
    pub fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Taken,
    /// The broker does not let us (rights, quota): every other event would fare the same, so the line waits.
    Refused(String),
    /// Only this event cannot be taken, now or ever (too large, of a form the broker does not want).
    Unfit(String),
}

/// The connection could not be made, or is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);
