//! NATS: events in a JetStream stream, requests as a micro service, presence in a key-value bucket, progress on core
//! NATS. Works on nats-server 2.9.10 (Debian 12) and later.

mod desk;
mod outlet;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bus::birth::Birth;
use crate::bus::relay;
use crate::bus::topic::Subjects;
use crate::bus::transport::Lost;

/// The name of the cursor.
pub const SINK: &str = "nats";

const PING: Duration = Duration::from_secs(20);

/// Where the server is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `nats://host:4222` or `tls://host:4222`
    pub url: String,
    pub login: Login,
    /// PEM of the server's authority; with it TLS is required.
    pub ca: Option<PathBuf>,
}

/// How we show who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// A `.creds` file: JWT and nkey.
    Credentials(PathBuf),
}

impl Settings {
    /// Finds at start what no waiting will mend.
    pub(in crate::bus) fn check(&self) -> Result<(), SettingsError> {
        let Self { url, login, ca } = self;
        url.parse::<ServerAddr>()
            .map_err(|error| SettingsError::Url { url: url.clone(), reason: error.to_string() })?;
        let files = [ca.as_ref(), if let Login::Credentials(path) = login { Some(path) } else { None }];
        for path in files.into_iter().flatten() {
            std::fs::read(path).map_err(|source| SettingsError::Read { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Options that both clients share. Files are read anew for each connection.
    async fn options(&self, name: &str, station: &str) -> Result<ConnectOptions, Lost> {
        let mut options =
            ConnectOptions::new().name(name).custom_inbox_prefix(format!("_INBOX.{station}")).ping_interval(PING);
        options = match &self.login {
            Login::Anonymous => options,
            Login::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
            Login::Credentials(path) => options
                .credentials_file(path)
                .await
                .map_err(|error| Lost(format!("cannot read {}: {error}", path.display())))?,
        };
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        Ok(options)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, login, ca } = self;
        f.debug_struct("Settings").field("url", url).field("login", login).field("ca", ca).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Password { user, .. } => write!(f, "Password({user}, hidden)"),
            Self::Token(_) => f.write_str("Token(hidden)"),
            Self::Credentials(path) => write!(f, "Credentials({})", path.display()),
        }
    }
}

/// What the library tells of a connection.
#[derive(Clone)]
struct News {
    /// Cancelled when the connection is gone.
    gone: CancellationToken,
    /// The newest complaint of the server. A denied subject is told only here: the publish itself times out.
    complaint: watch::Sender<Option<String>>,
}

impl News {
    fn new() -> Self {
        Self { gone: CancellationToken::new(), complaint: watch::Sender::new(None) }
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
            Event::ServerError(error) => {
                warn!(%error, "the NATS server complains");
                self.complaint.send_replace(Some(error.to_string()));
            }
            Event::ClientError(error) => debug!(%error, "NATS"),
            Event::Connected | Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) => {
                debug!(%event, "NATS")
            }
        }
    }

    /// Why something went wrong, with the server's own words if it said any.
    fn explain(&self, what: &str) -> Lost {
        match &*self.complaint.borrow() {
            Some(complaint) => Lost(format!("{what}; the server says: {complaint}")),
            None => Lost(what.to_owned()),
        }
    }
}

/// Serves a server until `stop`. A server that is away is normal.
pub async fn run(settings: Settings, source: relay::Source, subjects: Subjects, birth: Birth, stop: CancellationToken) {
    let ledger = source.ledger.clone();
    let station = ledger.identity().station.clone();
    let outlet = outlet::Outlet::new(settings.clone(), &station, subjects.clone());
    let desk = desk::Desk { settings, ledger, subjects, birth };
    let farewell = CancellationToken::new();
    let events = async {
        relay::run(SINK, source, outlet, stop.clone()).await;
        farewell.cancel();
    };
    tokio::join!(events, desk.run(farewell.clone()));
}

/// The configuration of NATS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("bus.nats.url {url:?} is not a NATS address: {reason}")]
    Url { url: String, reason: String },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}
