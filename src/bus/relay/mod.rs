//! The relay: one line from the journal to one broker, in order, each event until it is acknowledged.
//!
//! The journal is the outbox and a sink is a cursor into it. A relay is the sole owner of its cursor: it keeps a
//! window of events on the way, moves the cursor over what is acknowledged, and after a lost connection starts again
//! behind the cursor. A broker may so see an event twice, but never a new one out of order.

mod again;
mod clerk;
mod line;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::relay::again::Again;
use crate::bus::relay::clerk::State;
use crate::bus::relay::line::{Lane, Line};
use crate::bus::relay::pace::CatchUp;
use crate::bus::transport::{Fate, Lost, Transport, Verdict};
use crate::core::delivery::{Replay, SinkState};
use crate::core::job::Job;
use crate::core::observation::{Input, Observation};
use crate::ledger::{Ledger, Recorded, SubmitError, crash_point};

/// The largest event that is sent: `CloudEvents` asks intermediaries for no more than 64 KiB.
pub const MAX_EVENT: usize = 64 * 1024;
/// How long the first event of the window may wait for its acknowledgement before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a stopping station goes on sending what is in the journal.
const LAST_CALL: Duration = Duration::from_secs(3);
/// Alarms that may wait for the clerk. When it is full an alarm is dropped: it stands in the log.
const ALARMS: usize = 16;
/// Events of a replay that are read at a time.
const PAGE: u32 = 256;

type Batches = BoxStream<'static, Result<Vec<Recorded>, SubmitError>>;
type Written<T> = BoxFuture<'static, Result<T, SubmitError>>;

/// Where a sink's events come from, and how fast it may catch up.
#[derive(Clone)]
pub struct Source {
    pub ledger: Ledger,
    /// Events a second while there is a backlog; without a number as fast as the broker takes them.
    pub catch_up: Option<u32>,
}

/// Where events come from, and where it is written down what became of them: the ledger, or a list in a test.
struct Journal {
    /// Reads on after a sequence number.
    follow: Box<dyn Fn(u64) -> Batches + Send + Sync>,
    newest: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The next events of a replay.
    select: Box<dyn Fn(u64, Replay) -> Written<Vec<Recorded>> + Send + Sync>,
    /// What must be written down before the line goes on.
    tell: Box<dyn Fn(Observation) -> Written<()> + Send + Sync>,
}

impl Journal {
    fn of(ledger: &Ledger) -> Self {
        let (reader, counter, selector, teller) = (ledger.clone(), ledger.clone(), ledger.clone(), ledger.clone());
        Self {
            follow: Box::new(move |after| {
                stream::unfold(reader.follow(after), async |mut follower| {
                    let batch = follower.next().await;
                    Some((batch, follower))
                })
                .boxed()
            }),
            newest: Box::new(move || counter.newest()),
            select: Box::new(move |after, replay| {
                let ledger = selector.clone();
                async move { ledger.select(after, replay, PAGE).await }.boxed()
            }),
            tell: Box::new(move |observation| {
                let ledger = teller.clone();
                async move { ledger.submit(Input::Observed(observation)).await.map(drop) }.boxed()
            }),
        }
    }
}

/// Carries the journal to a sink until `stop`; returns when what was left has been sent, or three seconds later.
pub async fn run<T: Transport>(sink: &'static str, source: Source, transport: T, stop: CancellationToken) {
    let Source { ledger, catch_up } = source;
    let Some(cursor) = clerk::cursor(sink, &ledger, &stop).await else {
        return;
    };
    let (position, reached) = watch::channel(cursor);
    let (state, told) = watch::channel(State::default());
    let (alarms, raised) = mpsc::channel(ALARMS);
    let relay = Relay {
        sink,
        journal: Journal::of(&ledger),
        transport,
        position,
        state,
        alarms,
        replays: ledger.replays(),
        catch_up: CatchUp::new(catch_up),
        standing: Standing::Unknown,
    };
    // The clerk ends when the relay has dropped its ends of the channels, after writing down the last position.
    tokio::join!(
        relay.run(stop),
        clerk::positions(sink, &ledger, reached),
        clerk::states(sink, &ledger, told),
        clerk::alarms(&ledger, raised)
    );
}

/// Whether the broker lets us publish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A former process may have left an alarm.
    Unknown,
    Welcome,
    Refused,
}

/// How the service of one connection ended.
enum End {
    Stopped,
    Lost(Lost),
}

impl From<SubmitError> for End {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Closed => Self::Stopped,
            other => Self::Lost(Lost(format!("the ledger: {other}"))),
        }
    }
}

struct Relay<T> {
    sink: &'static str,
    journal: Journal,
    transport: T,
    /// Everything up to here is acknowledged or given up for good.
    position: watch::Sender<u64>,
    state: watch::Sender<State>,
    alarms: mpsc::Sender<Observation>,
    /// The open replays of all sinks.
    replays: watch::Receiver<Arc<Vec<Job>>>,
    catch_up: CatchUp,
    standing: Standing,
}

impl<T: Transport> Relay<T> {
    /// Taken by value, so that the clerk's ends of the channels close when it is over.
    async fn run(mut self, stop: CancellationToken) {
        let stop = &stop;
        let mut backoff = Backoff::default();
        loop {
            let end = self.connection(&mut backoff, stop).await;
            self.transport.close().await;
            match end {
                End::Stopped => return,
                End::Lost(why) => {
                    debug!(sink = self.sink, %why, "no way out for events; they wait in the journal")
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.wait()) => {}
            }
        }
    }

    async fn connection(&mut self, backoff: &mut Backoff, stop: &CancellationToken) -> End {
        let attempt = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            attempt = self.transport.connect() => attempt,
        };
        match attempt {
            Ok(terms) => {
                info!(sink = self.sink, after = *self.position.borrow(), "events flow");
                self.fares(SinkState::Up, None);
                let start = Instant::now();
                let end = self.serve(terms.window, stop).await;
                backoff.held(start.elapsed());
                if let End::Lost(why) = &end {
                    warn!(sink = self.sink, %why, "events wait in the journal");
                    self.fares(SinkState::Down, Some(why));
                }
                end
            }
            Err(lost) => {
                match self.transport.refusal() {
                    Some(reason) => {
                        self.refused(format!("{} turns the station away: {reason}; events wait", self.sink), reason);
                    }
                    None => {
                        self.state.send_replace(State { state: SinkState::Down, reason: Some(lost.0.clone()) });
                    }
                }
                End::Lost(lost)
            }
        }
    }

    /// A broker that refuses us stays one that refuses us until it has taken an event.
    fn fares(&self, state: SinkState, why: Option<&Lost>) {
        if self.standing != Standing::Refused {
            let state = State { state, reason: why.map(|why| why.0.clone()) };
            self.state.send_if_modified(|told| std::mem::replace(told, state.clone()) != state);
        }
    }

    async fn serve(&mut self, window: usize, stop: &CancellationToken) -> End {
        let cursor = *self.position.borrow();
        let (mut line, mut again) = (Line::new(cursor, window), Again::default());
        let mut journal = (self.journal.follow)(cursor);
        let mut patience = Instant::now() + PATIENCE;
        let mut last: Option<(u64, Instant)> = None;
        loop {
            let was_idle = line.is_idle();
            if let Err(end) = self.advance(&mut line, &mut again).await {
                return end;
            }
            if was_idle {
                patience = Instant::now() + PATIENCE;
            }
            if last.is_some_and(|(target, _)| line.cursor() >= target) {
                return End::Stopped;
            }
            let turn = self.turn(&line, &again);
            tokio::select! {
                verdict = self.transport.verdict() => {
                    patience = Instant::now() + PATIENCE;
                    let judged = match verdict {
                        Ok(verdict) => self.judge(&mut line, &mut again, verdict).await,
                        Err(lost) => Err(End::Lost(lost)),
                    };
                    if let Err(end) = judged { return end }
                }
                batch = journal.next(), if line.is_hungry() => match batch {
                    Some(Ok(events)) => line.extend(events),
                    None => return End::Stopped,
                    Some(Err(error)) => return error.into(),
                },
                page = again.read(), if again.is_reading() => if let Err(error) = page {
                    return error.into();
                },
                // The ledger's end of it goes with the ledger, which the journal tells.
                Ok(()) = self.replays.changed() => {}
                () = sleep_until(turn.unwrap_or(patience)), if turn.is_some() => {}
                () = stop.cancelled(), if last.is_none() => {
                    last = Some(((self.journal.newest)(), Instant::now() + LAST_CALL));
                }
                () = sleep_until(patience), if !line.is_idle() => {
                    return End::Lost(Lost("no acknowledgement for 30 s".to_owned()));
                }
                () = sleep_until(last.map_or(patience, |(_, deadline)| deadline)), if last.is_some() => {
                    return End::Stopped;
                }
            }
        }
    }

    /// Sends what may go, and says how far it is.
    async fn advance(&mut self, line: &mut Line, again: &mut Again) -> Result<(), End> {
        self.repeat(line, again).await?;
        self.fill(line, again).await?;
        self.position.send_if_modified(|position| std::mem::replace(position, line.cursor()) != line.cursor());
        Ok(())
    }

    /// When the next event may go, if only its time is missing.
    fn turn(&self, line: &Line, again: &Again) -> Option<Instant> {
        if !line.has_room() {
            return None;
        }
        let news = self.catch_up.next().filter(|_| !line.is_hungry());
        news.into_iter().chain(again.turn()).min()
    }

    /// Where the replays stand: the next one begins, one is over, one is a little further.
    async fn repeat(&mut self, line: &Line, again: &mut Again) -> Result<(), End> {
        if let Some(end) = again.end(line.is_repeating()) {
            (self.journal.tell)(end).await?;
            again.close();
        }
        let open = Arc::clone(&self.replays.borrow_and_update());
        again.choose(self.sink, &open, line.is_repeating());
        again.ask(&self.journal.select);
        if let Some(progress) = again.progress(line.again(), Instant::now()) {
            self.alarm(progress);
        }
        Ok(())
    }

    /// Publishes while the window has room: news first, then what is sent again.
    async fn fill(&mut self, line: &mut Line, again: &mut Again) -> Result<(), End> {
        while line.has_room() {
            let backlog = (self.journal.newest)().saturating_sub(line.sent());
            if !line.is_hungry() && self.catch_up.allows(backlog, Instant::now()) {
                let Some(event) = line.step() else { break };
                if event.body.len() > MAX_EVENT {
                    self.bury(&event.name, event.seq, &format!("{} bytes; at most {MAX_EVENT}", event.body.len()))
                        .await?;
                    line.settle(event.seq);
                } else {
                    self.publish(&event).await?;
                }
            } else if let Some(event) = again.next(Instant::now()) {
                if event.body.len() <= MAX_EVENT {
                    line.admit(event.seq);
                    self.publish(&event).await?;
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    async fn publish(&mut self, event: &Recorded) -> Result<(), End> {
        self.transport.publish(event).await.map_err(End::Lost)
    }

    async fn judge(&mut self, line: &mut Line, again: &mut Again, verdict: Verdict) -> Result<(), End> {
        let Verdict { seq, fate } = verdict;
        let repeated = line.lane(seq) == Some(Lane::Again);
        match fate {
            Fate::Taken => {
                self.welcome();
                if repeated {
                    if again.of_dead_letters() {
                        (self.journal.tell)(Observation::Redelivered { sink: self.sink.to_owned(), seq }).await?;
                    }
                    again.taken();
                }
                crash_point("ack");
                line.settle(seq);
                Ok(())
            }
            Fate::Unfit(reason) => {
                if !repeated {
                    let name = line.name(seq).unwrap_or_default().to_owned();
                    self.bury(&name, seq, &reason).await?;
                }
                line.settle(seq);
                Ok(())
            }
            Fate::Refused(reason) => {
                let detail = format!("{} refuses event {seq}: {reason}; events wait", self.sink);
                self.refused(detail.clone(), reason);
                Err(End::Lost(Lost(detail)))
            }
        }
    }

    /// Somebody has to act; said once, until the broker takes an event again.
    fn refused(&mut self, detail: String, reason: String) {
        if std::mem::replace(&mut self.standing, Standing::Refused) != Standing::Refused {
            self.alarm(Observation::AlarmRaised { code: self.refusal(), detail });
        }
        let stalled = State { state: SinkState::Stalled, reason: Some(reason) };
        self.state.send_if_modified(|told| std::mem::replace(told, stalled.clone()) != stalled);
    }

    fn refusal(&self) -> String {
        format!("bus.refused.{}", self.sink)
    }

    fn welcome(&mut self) {
        if std::mem::replace(&mut self.standing, Standing::Welcome) != Standing::Welcome {
            self.alarm(Observation::AlarmCleared { code: self.refusal() });
            self.fares(SinkState::Up, None);
        }
    }

    /// An event that this sink will never take is left out, so that it does not hold up all the others. The line goes
    /// on when that is written down.
    async fn bury(&mut self, name: &str, seq: u64, reason: &str) -> Result<(), End> {
        warn!(sink = self.sink, seq, reason, "an event cannot be sent and is left out");
        let (sink, name, reason) = (self.sink.to_owned(), name.to_owned(), reason.to_owned());
        Ok((self.journal.tell)(Observation::DeadLettered { sink, seq, name, reason }).await?)
    }

    fn alarm(&self, alarm: Observation) {
        if let Err(error) = self.alarms.try_send(alarm) {
            debug!(sink = self.sink, %error, "an alarm stands only in the log");
        }
    }
}
