//! Events that are sent again: the replays of a sink, one after the other, beside its line.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::bus::relay::pace::Pace;
use crate::core::command::CommandId;
use crate::core::delivery::Replay;
use crate::core::job::Job;
use crate::core::observation::Observation;
use crate::ledger::{Recorded, SubmitError};

/// How often it is written down how far a replay is; what was sent meanwhile is sent again after a crash.
const TELL_EVERY: Duration = Duration::from_secs(2);

type Page = Result<Vec<Recorded>, SubmitError>;

/// The replay under way, if there is one.
#[derive(Default)]
pub struct Again {
    current: Option<Current>,
}

struct Current {
    id: CommandId,
    replay: Replay,
    /// The journal is read up to here.
    read: u64,
    waiting: VecDeque<Recorded>,
    reading: Option<BoxFuture<'static, Page>>,
    /// There is no more to read.
    whole: bool,
    pace: Pace,
    reached: u64,
    sent: u64,
    told: Instant,
}

impl Again {
    /// Drops a replay that is not open any more, and begins the next one when nothing of the last is on the way.
    pub fn choose(&mut self, sink: &str, open: &[Job], busy: bool) {
        if self.current.as_ref().is_some_and(|current| open.iter().all(|job| job.id != current.id)) {
            self.current = None;
        }
        if self.current.is_some() || busy {
            return;
        }
        let mine = open.iter().filter_map(|job| Some((&job.id, job.replay.as_ref()?)));
        self.current = mine.into_iter().find(|(_, replay)| replay.sink == sink).map(|(id, replay)| Current {
            id: id.clone(),
            read: replay.reached,
            waiting: VecDeque::new(),
            reading: None,
            whole: false,
            pace: Pace::new(replay.rate),
            reached: replay.reached,
            sent: replay.sent,
            told: Instant::now(),
            replay: replay.clone(),
        });
    }

    /// Asks for more when everything that was read is on its way.
    pub fn ask(&mut self, select: impl Fn(u64, Replay) -> BoxFuture<'static, Page>) {
        if let Some(current) = &mut self.current
            && current.reading.is_none()
            && current.waiting.is_empty()
            && !current.whole
        {
            current.reading = Some(select(current.read, current.replay.clone()));
        }
    }

    pub fn is_reading(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.reading.is_some())
    }

    /// Waits for what was asked for. Cancel-safe: the question is kept.
    pub async fn read(&mut self) -> Result<(), SubmitError> {
        let Some(current) = &mut self.current else { return std::future::pending().await };
        let Some(reading) = &mut current.reading else { return std::future::pending().await };
        let page = reading.await;
        current.reading = None;
        let page = page?;
        match page.last() {
            Some(last) => current.read = last.seq,
            None => current.whole = true,
        }
        current.waiting.extend(page.into_iter().filter(|event| current.replay.which.takes(&event.name)));
        Ok(())
    }

    /// The next event, when its time has come.
    pub fn next(&mut self, now: Instant) -> Option<Recorded> {
        let current = self.current.as_mut()?;
        if current.waiting.is_empty() || !current.pace.take(now) {
            return None;
        }
        current.waiting.pop_front()
    }

    /// When the next may go.
    pub fn turn(&self) -> Option<Instant> {
        self.current.as_ref().filter(|current| !current.waiting.is_empty())?.pace.next()
    }

    /// An event that was sent again is taken; `reached` is the last before which nothing is on the way.
    pub fn taken(&mut self) {
        if let Some(current) = &mut self.current {
            current.sent += 1;
        }
    }

    /// Is a dead letter sent again?
    pub fn of_dead_letters(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.replay.which.dead_letters)
    }

    /// What is worth writing down: from time to time how far it is.
    pub fn progress(&mut self, reached: u64, now: Instant) -> Option<Observation> {
        let current = self.current.as_mut()?;
        if reached <= current.reached || now.duration_since(current.told) < TELL_EVERY {
            return None;
        }
        (current.reached, current.told) = (reached, now);
        Some(Observation::ReplayMoved { job: current.id.clone(), reached, sent: current.sent })
    }

    /// Everything was sent and is taken.
    pub fn end(&self, busy: bool) -> Option<Observation> {
        let done = |current: &&Current| current.whole && current.waiting.is_empty() && !busy;
        let Current { id, sent, .. } = self.current.as_ref().filter(done)?;
        Some(Observation::ReplayEnded { job: id.clone(), sent: *sent })
    }

    pub fn close(&mut self) {
        self.current = None;
    }
}
