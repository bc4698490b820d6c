//! Events to the JetStream stream `BOOTLINE_EVT`.

use std::error::Error;
use std::time::Duration;

use async_nats::Client;
use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, ErrorCode};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::FuturesOrdered;
use tokio::time::timeout;

use crate::bus::nats::{News, Settings};
use crate::bus::topic::Subjects;
use crate::bus::transport::{Fate, Lost, Terms, Transport, Verdict};
use crate::ledger::Recorded;

const STREAM: &str = "BOOTLINE_EVT";
const WINDOW: usize = 64;
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// An event that was stored but whose acknowledgement was lost is sent again, perhaps after a long weekend.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(72 * 3600);
const PATIENCE: Duration = Duration::from_secs(5);
/// A place where no server is. See `Outlet::connect`.
const NOWHERE: &str = "nats://127.0.0.1:0";

pub struct Outlet {
    settings: Settings,
    station: String,
    subjects: Subjects,
    open: Option<Open>,
}

struct Open {
    client: Client,
    context: Context,
    news: News,
    /// Acknowledgements in the order of the events.
    verdicts: FuturesOrdered<BoxFuture<'static, Result<Verdict, PublishError>>>,
}

impl Outlet {
    pub fn new(settings: Settings, station: &str, subjects: Subjects) -> Self {
        Self { settings, station: station.to_owned(), subjects, open: None }
    }
}

impl Transport for Outlet {
    /// async-nats reconnects by itself and then sends what waits in its queue, without what was lost in the socket
    /// before it: new events would overtake old ones. It has no switch for that, so once connected its list of servers
    /// is replaced by a place where none is; one failed attempt later it gives up, and the relay starts afresh.
    async fn connect(&mut self) -> Result<Terms, Lost> {
        let news = News::new();
        let options = self.settings.options(&format!("bootline/{}-evt", self.station), &self.station).await?;
        let options = news.listen(options).ignore_discovered_servers().max_reconnects(1).connection_timeout(PATIENCE);
        let client = options.connect(self.settings.url.as_str()).await.map_err(|error| news.explain(&chain(&error)))?;
        client.set_server_pool(NOWHERE).await.map_err(|error| Lost(chain(&error)))?;
        let context = jetstream::new(client.clone());
        context
            .get_or_create_stream(stream())
            .await
            .map_err(|error| news.explain(&format!("no stream {STREAM}: {}", chain(&error))))?;
        self.open = Some(Open { client, context, news, verdicts: FuturesOrdered::new() });
        Ok(Terms { window: WINDOW })
    }

    async fn publish(&mut self, event: &Recorded) -> Result<(), Lost> {
        let Some(open) = &mut self.open else {
            return Err(Lost("not connected".to_owned()));
        };
        let seq = event.seq;
        let subject = self.subjects.event(&event.kind, &event.subject, &event.name);
        let handed = open.context.publish_with_headers(subject, headers(event), event.body.clone());
        match timeout(PATIENCE, handed).await {
            Ok(Ok(ack)) => {
                let verdict = async move { ack.await.map(|_| Verdict { seq, fate: Fate::Taken }) };
                open.verdicts.push_back(verdict.map(move |verdict| unfit(seq, verdict)).boxed());
                Ok(())
            }
            Ok(Err(error)) => {
                open.verdicts.push_back(ready(unfit(seq, Err(error))).boxed());
                Ok(())
            }
            Err(_) => Err(open.news.explain("the connection takes nothing")),
        }
    }

    async fn verdict(&mut self) -> Result<Verdict, Lost> {
        let Some(open) = &mut self.open else {
            return Err(Lost("not connected".to_owned()));
        };
        let Open { news, verdicts, .. } = open;
        tokio::select! {
            Some(verdict) = verdicts.next() => verdict.map_err(|error| news.explain(&chain(&error))),
            () = news.gone.cancelled() => Err(news.explain("the connection is gone")),
        }
    }

    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            // Fails only if the connection is gone already.
            let _ = timeout(PATIENCE, open.client.drain()).await;
        }
    }
}

/// An event that the server will never take is a verdict; anything else is trouble with the connection.
fn unfit(seq: u64, verdict: Result<Verdict, PublishError>) -> Result<Verdict, PublishError> {
    verdict.or_else(|error| {
        let code = error
            .source()
            .and_then(|source| source.downcast_ref::<jetstream::Error>())
            .map(jetstream::Error::error_code);
        let is_unfit = error.kind() == PublishErrorKind::MaxPayloadExceeded
            || code == Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        if is_unfit { Ok(Verdict { seq, fate: Fate::Unfit(chain(&error)) }) } else { Err(error) }
    })
}

/// The CloudEvents binding of NATS knows a structured event by its content type.
fn headers(event: &Recorded) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, event.id.to_string());
    headers.insert("Content-Type", "application/cloudevents+json");
    headers
}

fn stream() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec![Subjects::ALL_EVENTS.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: MAX_AGE,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// An error with its causes: async-nats puts the interesting half into the source.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
