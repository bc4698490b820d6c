//! How far the images of running sessions have left the station: counted as bytes go out, told to the ledger now and
//! then. So a device that has stopped reading is told from one that works, whatever it says of itself.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::Stream;
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::core::observation::{Input, Observation};
use crate::core::plan::SessionId;
use crate::ledger::{Ledger, SubmitError};

const INTERVAL: Duration = Duration::from_secs(2);

/// A handle. A std mutex around a few counters, never held across a wait: a response that is dropped must be able to
/// say so, and a drop cannot wait.
#[derive(Clone, Default)]
pub struct Flows {
    table: Arc<Mutex<HashMap<SessionId, Flow>>>,
}

#[derive(Default)]
struct Flow {
    bytes: Arc<AtomicU64>,
    open: u32,
    told: Option<Level>,
}

/// Bytes of all responses of a session so far, and how many are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    bytes: u64,
    open: u32,
}

impl Flows {
    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Flow>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A response begins; it ends when the value is dropped.
    pub fn open(&self, session: SessionId) -> Passing {
        let mut table = self.table();
        let flow = table.entry(session).or_default();
        flow.open += 1;
        Passing { bytes: Arc::clone(&flow.bytes), flows: self.clone(), session }
    }

    /// What the ledger does not know yet.
    fn news(&self) -> Vec<(SessionId, Level)> {
        let level = |flow: &Flow| Level { bytes: flow.bytes.load(Ordering::Relaxed), open: flow.open };
        let table = self.table();
        let levels = table.iter().map(|(session, flow)| (*session, level(flow), flow.told));
        levels.filter(|(_, level, told)| Some(*level) != *told).map(|(session, level, _)| (session, level)).collect()
    }

    /// The ledger knows. Only then is an end forgotten: one that was never told would look like a device that stalls.
    fn told(&self, session: SessionId, level: Level) {
        let mut table = self.table();
        if let Some(flow) = table.get_mut(&session) {
            flow.told = Some(level);
            if flow.open == 0 && level.open == 0 {
                table.remove(&session);
            }
        }
    }

    pub async fn run(&self, ledger: &Ledger, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.tell(ledger).await,
            }
        }
    }

    /// All at once, so that they share a commit.
    async fn tell(&self, ledger: &Ledger) {
        let tell = async |(session, level): (SessionId, Level)| {
            let flow = Observation::ImageFlow { session, bytes: level.bytes, open: level.open };
            match ledger.submit(Input::Observed(flow)).await {
                Ok(_) | Err(SubmitError::Refused(_)) => self.told(session, level),
                Err(error) => tracing::debug!(%session, %error, "the flow of an image is told later"),
            }
        };
        join_all(self.news().into_iter().map(tell)).await;
    }
}

/// One response that is open.
pub struct Passing {
    flows: Flows,
    session: SessionId,
    bytes: Arc<AtomicU64>,
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(flow) = self.flows.table().get_mut(&self.session) {
            flow.open = flow.open.saturating_sub(1);
        }
    }
}

/// A body whose bytes are counted as they are handed to the connection.
pub struct Counted<S> {
    body: Pin<Box<S>>,
    passing: Passing,
}

impl<S> Counted<S> {
    pub fn new(body: S, passing: Passing) -> Self {
        Self { body: Box::pin(body), passing }
    }
}

impl<S, E> Stream for Counted<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(self.body.as_mut().poll_next(context));
        if let Some(Ok(bytes)) = &chunk {
            self.passing.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(uuid::Uuid::nil());

    #[test]
    fn what_flows_is_told_once_and_forgotten_after_its_end_was_told() {
        let flows = Flows::default();
        let (first, second) = (flows.open(SESSION), flows.open(SESSION));
        first.bytes.fetch_add(100, Ordering::Relaxed);
        let level = Level { bytes: 100, open: 2 };
        assert_eq!(flows.news(), [(SESSION, level)]);
        flows.told(SESSION, level);
        assert_eq!(flows.news(), []);
        drop(first);
        drop(second);
        let end = Level { bytes: 100, open: 0 };
        assert_eq!(flows.news(), [(SESSION, end)]);
        assert_eq!(flows.news(), [(SESSION, end)], "it was not told");
        flows.told(SESSION, end);
        assert!(flows.news().is_empty() && flows.table().is_empty());
    }

    #[test]
    fn an_end_that_is_told_does_not_hide_a_new_beginning() {
        let flows = Flows::default();
        drop(flows.open(SESSION));
        let [(_, end)] = flows.news()[..] else { panic!("one flow") };
        let _again = flows.open(SESSION);
        flows.told(SESSION, end);
        assert_eq!(flows.news(), [(SESSION, Level { bytes: 0, open: 1 })]);
    }
}
