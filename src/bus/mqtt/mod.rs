//! MQTT 5, with two clients a station: `{station}` takes requests, answers them and says who is there;
//! `{station}-evt` carries events and progress. What one of them holds up never holds up the other.

mod connection;
mod desk;
mod outlet;
mod session;

use std::fmt;
use std::path::{Path, PathBuf};

use rumqttc::{MqttOptions, TlsConfiguration, Transport as Wire};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::bus::birth::Birth;
use crate::bus::progress::Progress;
use crate::bus::relay;
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;

/// The name of the cursor.
pub const SINK: &str = "mqtt";

/// The largest packet that a broker may send us. Without a stated limit rumqttc takes 10 KiB, does not say so to the
/// broker, and goes deaf after the first larger one.
const MAX_PACKET: u32 = 256 * 1024;
const KEEP_ALIVE_SECONDS: u16 = 20;

/// Where the broker is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    pub password: Option<String>,
    pub tls: Option<Tls>,
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
        Self { host: host.to_owned(), port, username: None, password: None, tls: None }
    }

    /// Reads every file that a connection will need, so that a wrong path is found at start.
    pub(in crate::bus) fn check(&self) -> Result<(), FileError> {
        self.wire().map(drop)
    }

    /// Options that both clients share. Certificates are read anew for each connection: they are renewed in place.
    async fn options(&self, client: &str) -> Result<MqttOptions, Lost> {
        let settings = self.clone();
        let wire = spawn_blocking(move || settings.wire()).await.map_err(|error| Lost(error.to_string()))?;
        let mut options = MqttOptions::new(client, (bracketed(&self.host), self.port));
        options.set_transport(wire.map_err(|error| Lost(error.to_string()))?);
        options.set_keep_alive(KEEP_ALIVE_SECONDS).set_max_packet_size(Some(MAX_PACKET));
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => {
                options.set_credentials(username, password.clone());
            }
            (Some(username), None) => {
                options.set_username(username);
            }
            (None, Some(password)) => {
                options.set_password(password.clone());
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
        let Self { host, port, username, password, tls } = self;
        f.debug_struct("Settings")
            .field("host", host)
            .field("port", port)
            .field("username", username)
            .field("password", &password.as_ref().map(|_| "hidden"))
            .field("tls", tls)
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
    let outlet = outlet::Outlet::new(settings.clone(), &station, topics.clone(), birth_seen);
    let link = outlet.link();
    let progress = Progress::new(ledger.telemetry());
    let desk = desk::Desk { settings, ledger, topics: topics.clone(), birth, born };
    // The desk says goodbye when the last events are out.
    let farewell = CancellationToken::new();
    let events = async {
        relay::run(SINK, source, outlet, stop.clone()).await;
        farewell.cancel();
    };
    tokio::join!(events, outlet::telemetry(progress, topics, link, stop.clone()), desk.run(farewell.clone()));
}

/// A file of the TLS configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("a client certificate for the MQTT broker needs the broker's ca as well")]
    NoAuthority,
    #[error("cannot read the certificate authorities of this system: {0}; name the broker's ca")]
    SystemRoots(String),
}
