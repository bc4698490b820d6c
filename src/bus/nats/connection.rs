//! One connection to a NATS server: made afresh each time, and never by the library.
//!
//! async-nats reconnects by itself and then sends what waits in its queue, without what was lost in the socket before:
//! new events would overtake old ones, and while the server is away a publish blocks once the queue is full. It has no
//! switch for that, so once connected its list of servers is replaced by a place where none is; a few milliseconds
//! after a loss it gives up, and we start again. Files with secrets are so read anew for each connection.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bus::nats::settings::Settings;

/// How long the server may take for one answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Rights that we lack are remembered up to so many: every subject that a station subscribes to, and some.
const MOST_DENIED: usize = 128;
/// A place where no server is.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// Why something cannot be done now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Somebody has to act: a login, a right, a stream is missing.
    #[error("{0}")]
    Refused(String),
    /// The server is not there, or does not answer.
    #[error("{0}")]
    Away(String),
}

pub struct Connection {
    pub client: Client,
    pub news: News,
}

impl Connection {
    /// One attempt.
    pub async fn open(settings: &Settings, name: &str, station: &str) -> Result<Self, Trouble> {
        let news = News::new();
        let options = news.listen(settings.options(name, station).await?);
        let client = options.connect(settings.servers()).await.map_err(|error| refused(&error))?;
        let admitted = settings.admits(client.server_info().auth_required);
        if let Err(unsafe_server) = admitted {
            client.drain().await.ok();
            return Err(Trouble::Refused(unsafe_server));
        }
        client.set_server_pool(NOWHERE).await.map_err(|error| Trouble::Away(chain(&error)))?;
        Ok(Self { client, news })
    }

    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends what waits and ends it.
    pub async fn close(self) {
        let farewell = async {
            self.client.flush().await.ok();
            self.client.drain().await.ok();
        };
        // Takes long only if the connection is gone already.
        let _ = timeout(PATIENCE, farewell).await;
    }
}

/// What the library tells of a connection.
#[derive(Clone)]
pub struct News {
    /// Cancelled when the connection is gone, or the server is about to go.
    gone: CancellationToken,
    /// The rights that we lack. A denied subject is told only here: the publish itself times out.
    denied: watch::Sender<Vec<String>>,
    /// The newest complaint of the server.
    complaint: watch::Sender<Option<String>>,
}

impl News {
    fn new() -> Self {
        Self {
            gone: CancellationToken::new(),
            denied: watch::Sender::new(Vec::new()),
            complaint: watch::Sender::new(None),
        }
    }

    fn listen(&self, options: ConnectOptions) -> ConnectOptions {
        let news = self.clone();
        options.event_callback(move |event| {
            news.hear(&event);
            std::future::ready(())
        })
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.gone.cancel(),
            Event::LameDuckMode => {
                self.complaint.send_replace(Some("it is about to stop (lame duck)".to_owned()));
                self.gone.cancel();
            }
            Event::ServerError(error) => {
                debug!(%error, "the NATS server complains");
                let text = match error {
                    ServerError::Other(text) => text.clone(),
                    ServerError::AuthorizationViolation | ServerError::SlowConsumer(_) => error.to_string(),
                };
                if text.to_ascii_lowercase().starts_with("permissions violation") {
                    self.denied.send_if_modified(|denied| {
                        let is_new = denied.len() < MOST_DENIED && !denied.contains(&text);
                        if is_new {
                            denied.push(text.clone());
                        }
                        is_new
                    });
                }
                self.complaint.send_replace(Some(text));
            }
            Event::SlowConsumer(_) => warn!(%event, "NATS"),
            Event::ClientError(error) => debug!(%error, "NATS"),
            Event::Connected | Event::Draining => debug!(%event, "NATS"),
        }
    }

    /// Waits until the connection is gone, and says why.
    pub async fn gone(&self) -> Trouble {
        self.gone.cancelled().await;
        self.away("the connection is gone")
    }

    /// Whether the server has said that we lack a right.
    pub fn lacks(&self) -> bool {
        !self.denied.borrow().is_empty()
    }

    /// What the server has said of a right that we lack on a subject with this part.
    pub fn lacks_on(&self, subject: &str) -> Option<String> {
        self.denied.borrow().iter().find(|text| text.contains(subject)).cloned()
    }

    /// Waits until the server says that we lack a right on a subject with this part.
    pub async fn denied(&self, subject: &str) -> String {
        let mut denied = self.denied.subscribe();
        loop {
            let said = denied.borrow_and_update().iter().find(|text| text.contains(subject)).cloned();
            if let Some(said) = said {
                return said;
            }
            if denied.changed().await.is_err() {
                // Cannot be: the sender is here, in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// An answer of the server to what was asked on a subject, or why there will be none.
    pub async fn answer<T, E: Error>(
        &self,
        what: &str,
        subject: &str,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            answer = timeout(PATIENCE, asked) => match answer {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(self.away(&format!("{what}: {}", chain(&error)))),
                Err(_) => Err(self.away(&format!("{what}: no answer"))),
            },
            denied = self.denied(subject) => Err(Trouble::Refused(format!("{what}: {denied}"))),
            () = self.gone.cancelled() => Err(self.away(what)),
        }
    }

    /// Why something went wrong, with the server's own words if it said any.
    pub fn away(&self, what: &str) -> Trouble {
        match &*self.complaint.borrow() {
            Some(complaint) => Trouble::Away(format!("{what}; the server says: {complaint}")),
            None => Trouble::Away(what.to_owned()),
        }
    }
}

/// A login that is refused does not mend itself; a server that is away does.
fn refused(error: &ConnectError) -> Trouble {
    let text = chain(error);
    let lower = text.to_ascii_lowercase();
    let login = ["authorization", "authentication", "certificate"].iter().any(|word| lower.contains(word));
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication | ConnectErrorKind::Tls => {
            Trouble::Refused(text)
        }
        _ if login => Trouble::Refused(text),
        _ => Trouble::Away(text),
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
