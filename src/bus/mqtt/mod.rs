//! MQTT 5, with two clients a station (and a third for Sparkplug where it is wanted): `{station}` takes requests, answers them and says who is there;
//! `{station}-evt` carries events and progress. What one of them holds up never holds up the other.

mod audience;
mod board;
mod connection;
mod counter;
mod desk;
mod letter;
mod outlet;
mod session;
pub(in crate::bus) mod sparkplug;
mod takeover;
mod visit;

use std::fmt;
use std::path::{Path, PathBuf};

use rumqttc::{MqttOptions, TlsConfiguration, Transport as Wire};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::bus::birth::Birth;
use crate::bus::progress::Progress;
use crate::bus::relay;
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::core::observation::{Input, Observation};
use crate::ledger::Ledger;

pub use crate::bus::mqtt::visit::visit;

/// The name of the cursor.
pub const SINK: &str = "mqtt";

/// The largest packet that a broker may send us. Without a stated limit rumqttc takes 10 KiB, does not say so to the
/// broker, and goes deaf after the first larger one.
const MAX_PACKET: u32 = 256 * 1024;
const KEEP_ALIVE_SECONDS: u16 = 20;
/// Alarms that may wait for the ledger; one more stands in the log only.
const ALARMS: usize = 16;

/// Where the broker is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    /// Its first line; read anew for each connection, as are the certificates: they are renewed in place.
    pub password_file: Option<PathBuf>,
    pub tls: Option<Tls>,
    /// Events wait while the broker says that nobody takes them.
    pub require_consumer: bool,
    /// The group of a Sparkplug export beside our own topics.
    pub sparkplug: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM; without it the roots of the operating system count.
    pub ca: Option<PathBuf>,
    pub client: Option<ClientCertificate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Settings {
    /// A broker without TLS and password.
    #[cfg(any(test, feature = "embedded-broker"))]
    pub fn plain(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            username: None,
            password_file: None,
            tls: None,
            require_consumer: false,
            sparkplug: None,
        }
    }

    /// Reads every file that a connection will need, so that a wrong path is found at start.
    pub(in crate::bus) fn check(&self) -> Result<(), FileError> {
        if let Some(group) = &self.sparkplug {
            sparkplug::check_group(group)?;
        }
        self.password()?;
        self.wire().map(drop)
    }

    fn password(&self) -> Result<Option<String>, FileError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let text = String::from_utf8(read(path)?).map_err(|_| FileError::NoText(path.clone()))?;
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }

    /// Options that all clients share.
    async fn options(&self, client: &str) -> Result<MqttOptions, Lost> {
        let settings = self.clone();
        let read = spawn_blocking(move || Ok((settings.wire()?, settings.password()?)));
        let read: Result<_, FileError> = read.await.map_err(|error| Lost(error.to_string()))?;
        let (wire, password) = read.map_err(|error| Lost(error.to_string()))?;
        let mut options = MqttOptions::new(client, (bracketed(&self.host), self.port));
        options.set_transport(wire);
        options.set_keep_alive(KEEP_ALIVE_SECONDS).set_max_packet_size(Some(MAX_PACKET));
        match (&self.username, password) {
            (Some(username), Some(password)) => {
                options.set_credentials(username, password);
            }
            (Some(username), None) => {
                options.set_username(username);
            }
            (None, Some(password)) => {
                options.set_password(password);
            }
            (None, None) => {}
        }
        Ok(options)
    }

    fn wire(&self) -> Result<Wire, FileError> {
        let Some(tls) = &self.tls else {
            return Ok(Wire::Tcp);
        };
        let client_auth = match &tls.client {
            Some(client) => Some((read(&client.cert)?, read(&client.key)?)),
            None => None,
        };
        let configuration = match &tls.ca {
            Some(ca) => TlsConfiguration::Simple { ca: read(ca)?, alpn: None, client_auth },
            None if client_auth.is_some() => return Err(FileError::NoAuthority),
            None => {
                TlsConfiguration::try_default_rustls().map_err(|error| FileError::SystemRoots(error.to_string()))?
            }
        };
        Ok(Wire::tls_with_config(configuration))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, username, password_file, tls, require_consumer, sparkplug } = self;
        f.debug_struct("Settings")
            .field("host", host)
            .field("port", port)
            .field("username", username)
            .field("password_file", password_file)
            .field("tls", tls)
            .field("require_consumer", require_consumer)
            .field("sparkplug", sparkplug)
            .finish()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

/// rumqttc joins host and port with a colon.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Serves a broker until `stop`. A broker that is away is normal.
pub async fn run(settings: Settings, source: relay::Source, topics: Topics, birth: Birth, stop: CancellationToken) {
    let ledger = source.ledger.clone();
    let station = ledger.identity().station.clone();
    let (born, birth_seen) = watch::channel(false);
    let (alarms, raised) = mpsc::channel(ALARMS);
    let barred = CancellationToken::new();
    let around = outlet::Surroundings { born: birth_seen, barred: barred.clone(), alarms };
    let outlet = outlet::Outlet::new(settings.clone(), &station, topics.clone(), around);
    let link = outlet.link();
    let export = sparkplug::run(settings.clone(), ledger.clone(), barred.clone(), stop.clone());
    let desk = desk::Desk {
        settings,
        ledger: ledger.clone(),
        topics: topics.clone(),
        birth,
        born,
        barred,
        rival: watch::Sender::new(None),
    };
    let progress = Progress::new(ledger.telemetry());
    // The desk says goodbye when the last events are out.
    let farewell = CancellationToken::new();
    let events = async {
        relay::run(SINK, source, outlet, stop.clone()).await;
        farewell.cancel();
    };
    tokio::join!(
        events,
        tell(&ledger, raised),
        outlet::telemetry(progress, topics, link, stop.clone()),
        desk.run(farewell.clone()),
        export
    );
}

/// Hands alarms to the ledger until the outlet is gone.
async fn tell(ledger: &Ledger, mut raised: mpsc::Receiver<Observation>) {
    while let Some(alarm) = raised.recv().await {
        if let Err(error) = ledger.submit(Input::Observed(alarm)).await {
            warn!(%error, "cannot write down an alarm");
        }
    }
}

/// A file of the configuration cannot be used, or a name in it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("a client certificate for the MQTT broker needs the broker's ca as well")]
    NoAuthority,
    #[error("{} is no text, so no password is in it", .0.display())]
    NoText(PathBuf),
    #[error("sparkplug group {0:?} is empty, longer than 64 bytes or has /, + or # in it")]
    Group(String),
    #[error("cannot read the certificate authorities of this system: {0}; name the broker's ca")]
    SystemRoots(String),
}
