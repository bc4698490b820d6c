//! Events to the JetStream stream `BOOTLINE_EVT`.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::FuturesOrdered;
use tokio::time::timeout;

use crate::bus::nats::connection::{Connection, PATIENCE, Trouble, chain};
use crate::bus::nats::settings::Settings;
use crate::bus::nats::streams;
use crate::bus::topic::Subjects;
use crate::bus::transport::{Fate, Lost, Terms, Transport, Verdict};
use crate::ledger::Recorded;

const WINDOW: usize = 64;
/// This connection does nothing but events, so every right that it lacks is missing there.
const ANY: &str = "";

pub struct Outlet {
    settings: Settings,
    station: String,
    subjects: Subjects,
    open: Option<Open>,
    /// Why the last attempt was turned away.
    refusal: Option<String>,
    /// The newest event that the stream has, for those who ask for statistics.
    stored: Arc<AtomicU64>,
}

struct Open {
    connection: Connection,
    context: Context,
    /// What is on the way, and the answers in the same order.
    sent: VecDeque<u64>,
    answers: FuturesOrdered<BoxFuture<'static, Result<(), PublishError>>>,
}

impl Outlet {
    pub fn new(settings: Settings, station: &str, subjects: Subjects, stored: Arc<AtomicU64>) -> Self {
        Self { settings, station: station.to_owned(), subjects, open: None, refusal: None, stored }
    }

    async fn open(settings: &Settings, station: &str) -> Result<Open, Trouble> {
        let name = format!("bootline/{station}-evt");
        let connection = Connection::open(settings, &name, station).await?;
        let context = jetstream::new(connection.client.clone());
        if settings.manage_streams {
            // What is otherwise with it is told by the desk.
            streams::prepare(&context, &connection.news, streams::events(settings.replicas)).await?;
        }
        Ok(Open { connection, context, sent: VecDeque::new(), answers: FuturesOrdered::new() })
    }
}

impl Transport for Outlet {
    async fn connect(&mut self) -> Result<Terms, Lost> {
        self.refusal = None;
        match Self::open(&self.settings, &self.station).await {
            Ok(open) => {
                self.open = Some(open);
                Ok(Terms { window: WINDOW })
            }
            Err(trouble) => {
                if let Trouble::Refused(reason) = &trouble {
                    self.refusal = Some(reason.clone());
                }
                Err(Lost(trouble.to_string()))
            }
        }
    }

    fn refusal(&self) -> Option<String> {
        self.refusal.clone()
    }

    async fn publish(&mut self, event: &Recorded) -> Result<(), Lost> {
        let Some(open) = &mut self.open else {
            return Err(Lost("not connected".to_owned()));
        };
        // While it is not connected the library would queue, and then block.
        if !open.connection.is_up() {
            return Err(Lost(open.connection.news.away("the connection is gone").to_string()));
        }
        let subject = self.subjects.event(&event.kind, &event.subject, &event.name);
        let handed = open.context.publish_with_headers(subject, headers(event), event.body.clone());
        let answer = match timeout(PATIENCE, handed).await {
            Ok(Ok(answer)) => answer.into_future().map(|answer| answer.map(|_| ())).boxed(),
            Ok(Err(error)) => ready(Err(error)).boxed(),
            Err(_) => return Err(Lost(open.connection.news.away("the connection takes nothing").to_string())),
        };
        open.sent.push_back(event.seq);
        open.answers.push_back(answer);
        Ok(())
    }

    async fn verdict(&mut self) -> Result<Verdict, Lost> {
        let Some(open) = &mut self.open else {
            return Err(Lost("not connected".to_owned()));
        };
        let Open { connection, sent, answers, .. } = open;
        let answer = tokio::select! {
            biased; // What was answered counts, also when the connection is gone.
            Some(answer) = answers.next() => answer,
            denied = connection.news.denied(ANY), if !sent.is_empty() => {
                let seq = sent.front().copied().unwrap_or_default();
                return Ok(Verdict { seq, fate: Fate::Refused(denied) });
            }
            gone = connection.news.gone() => return Err(Lost(gone.to_string())),
        };
        let seq = sent.pop_front().unwrap_or_default();
        match answer {
            Ok(()) => {
                self.stored.store(seq, Ordering::Relaxed);
                Ok(Verdict { seq, fate: Fate::Taken })
            }
            Err(error) => match fate(&error) {
                Some(fate) => Ok(Verdict { seq, fate }),
                None => Err(Lost(connection.news.away(&chain(&error)).to_string())),
            },
        }
    }

    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.connection.close().await;
        }
    }
}

/// What an error says of the event; nothing if it is trouble with the connection.
fn fate(error: &PublishError) -> Option<Fate> {
    let said = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match (error.kind(), said.map(jetstream::Error::error_code)) {
        (PublishErrorKind::MaxPayloadExceeded, _)
        | (_, Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM)) => {
            Some(Fate::Unfit(chain(error)))
        }
        (PublishErrorKind::StreamNotFound, _) => {
            Some(Fate::Refused(format!("{}; make the stream {}", chain(error), streams::EVENTS)))
        }
        // The stream is full, sealed, out of storage: every other event would fare the same.
        (_, Some(_)) => Some(Fate::Refused(chain(error))),
        (_, None) => None,
    }
}

/// The CloudEvents binding of NATS knows a structured event by its content type.
fn headers(event: &Recorded) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, event.id.to_string());
    headers.insert("Content-Type", "application/cloudevents+json");
    headers
}
