//! The relay: one line from the journal to one broker, in order, each event until it is acknowledged.
//!
//! The journal is the outbox and a sink is a cursor into it. A relay is the sole owner of its cursor: it keeps a
//! window of events on the way, moves the cursor over what is acknowledged, and after a lost connection starts again
//! behind the cursor. A broker may so see an event twice, but never a new one out of order.

mod clerk;
mod line;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::relay::line::Line;
use crate::bus::transport::{Fate, Lost, Transport, Verdict};
use crate::core::observation::Observation;
use crate::ledger::{Ledger, Recorded, SubmitError};

/// The largest event that is sent: `CloudEvents` asks intermediaries for no more than 64 KiB.
pub const MAX_EVENT: usize = 64 * 1024;
/// How long the first event of the window may wait for its acknowledgement before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a stopping station goes on sending what is in the journal.
const LAST_CALL: Duration = Duration::from_secs(3);
/// Alarms that may wait for the clerk. When it is full an alarm is dropped: it stands in the log.
const ALARMS: usize = 16;

type Batches = BoxStream<'static, Result<Vec<Recorded>, SubmitError>>;

/// Where events come from: the ledger, or a list in a test.
struct Journal {
    /// Reads on after a sequence number.
    follow: Box<dyn Fn(u64) -> Batches + Send + Sync>,
    newest: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Journal {
    fn of(ledger: &Ledger) -> Self {
        let (reader, counter) = (ledger.clone(), ledger.clone());
        Self {
            follow: Box::new(move |after| {
                stream::unfold(reader.follow(after), async |mut follower| {
                    let batch = follower.next().await;
                    Some((batch, follower))
                })
                .boxed()
            }),
            newest: Box::new(move || counter.newest()),
        }
    }
}

/// Carries the journal to a sink until `stop`; returns when what was left has been sent, or three seconds later.
pub async fn run<T: Transport>(sink: &'static str, ledger: Ledger, transport: T, stop: CancellationToken) {
    let Some(cursor) = clerk::cursor(sink, &ledger, &stop).await else {
        return;
    };
    let (position, reached) = watch::channel(cursor);
    let (alarms, raised) = mpsc::channel(ALARMS);
    let journal = Journal::of(&ledger);
    let relay = Relay { sink, journal, transport, position, alarms, standing: Standing::Unknown };
    // The clerk ends when the relay has dropped its ends of the channels, after writing down the last position.
    tokio::join!(relay.run(stop), clerk::positions(sink, &ledger, reached), clerk::alarms(&ledger, raised));
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

struct Relay<T> {
    sink: &'static str,
    journal: Journal,
    transport: T,
    /// Everything up to here is acknowledged or given up for good.
    position: watch::Sender<u64>,
    alarms: mpsc::Sender<Observation>,
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
                let start = Instant::now();
                let end = self.serve(terms.window, stop).await;
                backoff.held(start.elapsed());
                if let End::Lost(why) = &end {
                    warn!(sink = self.sink, %why, "events wait in the journal");
                }
                end
            }
            Err(lost) => {
                if let Some(reason) = self.transport.refusal() {
                    self.refused(format!("{} turns the station away: {reason}; events wait", self.sink));
                }
                End::Lost(lost)
            }
        }
    }

    async fn serve(&mut self, window: usize, stop: &CancellationToken) -> End {
        let cursor = *self.position.borrow();
        let mut line = Line::new(cursor, window);
        let mut journal = (self.journal.follow)(cursor);
        let mut patience = Instant::now() + PATIENCE;
        let mut last: Option<(u64, Instant)> = None;
        loop {
            if let Err(lost) = self.fill(&mut line).await {
                return End::Lost(lost);
            }
            self.position.send_if_modified(|position| std::mem::replace(position, line.cursor()) != line.cursor());
            if last.is_some_and(|(target, _)| line.cursor() >= target) {
                return End::Stopped;
            }
            tokio::select! {
                verdict = self.transport.verdict() => match verdict {
                    Ok(verdict) => {
                        patience = Instant::now() + PATIENCE;
                        if let Err(lost) = self.judge(&mut line, verdict) {
                            return End::Lost(lost);
                        }
                    }
                    Err(lost) => return End::Lost(lost),
                },
                batch = journal.next(), if line.is_hungry() => match batch {
                    Some(Ok(events)) => {
                        if line.is_idle() {
                            patience = Instant::now() + PATIENCE;
                        }
                        line.extend(events);
                    }
                    None | Some(Err(SubmitError::Closed)) => return End::Stopped,
                    Some(Err(error)) => return End::Lost(Lost(format!("cannot read the journal: {error}"))),
                },
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

    /// Publishes while the window has room.
    async fn fill(&mut self, line: &mut Line) -> Result<(), Lost> {
        while let Some(event) = line.step() {
            if event.body.len() > MAX_EVENT {
                self.bury(event.seq, &format!("{} bytes; at most {MAX_EVENT}", event.body.len()));
                line.settle(event.seq);
            } else {
                self.transport.publish(&event).await?;
            }
        }
        Ok(())
    }

    fn judge(&mut self, line: &mut Line, verdict: Verdict) -> Result<(), Lost> {
        let Verdict { seq, fate } = verdict;
        match fate {
            Fate::Taken => {
                if std::mem::replace(&mut self.standing, Standing::Welcome) != Standing::Welcome {
                    self.alarm(Observation::AlarmCleared { code: format!("bus.refused.{}", self.sink) });
                }
                line.settle(seq);
                Ok(())
            }
            Fate::Unfit(reason) => {
                self.bury(seq, &reason);
                line.settle(seq);
                Ok(())
            }
            Fate::Refused(reason) => {
                let detail = format!("{} refuses event {seq}: {reason}; events wait", self.sink);
                self.refused(detail.clone());
                Err(Lost(detail))
            }
        }
    }

    /// Somebody has to act; said once, until the broker takes an event again.
    fn refused(&mut self, detail: String) {
        if std::mem::replace(&mut self.standing, Standing::Refused) != Standing::Refused {
            self.alarm(Observation::AlarmRaised { code: format!("bus.refused.{}", self.sink), detail });
        }
    }

    /// An event that this sink will never take is left out, so that it does not hold up all the others.
    fn bury(&self, seq: u64, reason: &str) {
        warn!(sink = self.sink, seq, reason, "an event cannot be sent and is left out");
        let detail = format!("{} cannot take event {seq}: {reason}", self.sink);
        self.alarm(Observation::AlarmRaised { code: format!("bus.deadletter.{}", self.sink), detail });
    }

    fn alarm(&self, alarm: Observation) {
        if let Err(error) = self.alarms.try_send(alarm) {
            debug!(sink = self.sink, %error, "an alarm stands only in the log");
        }
    }
}
