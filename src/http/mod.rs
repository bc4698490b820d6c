//! HTTP: the device side and the operator side, each on a listener of its own.

pub mod auth;
pub mod count;
mod delivery;
pub mod device;
mod docs;
mod error;
mod events;
mod extract;
mod firmware;
mod history;
mod images;
mod labels;
mod legacy;
pub mod local;
mod openapi;
pub mod operator;
mod pages;
mod routes;
mod sendfile;
mod slots;
mod stats;
mod telemetry;
pub mod tls;
pub mod tokens;
mod uploads;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use axum::Router;
use axum::serve::{ListenerExt as _, TapIo};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::sendfile::Files;
use crate::http::tls::Secure;
use crate::images::Mappings;

/// How long a stop waits for requests under way.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where devices find the station.
    pub devices: SocketAddrV4,
    pub operators: SocketAddr,
    pub listeners: Listeners,
    pub tls: Option<tls::Settings>,
    pub access: auth::Access,
}

/// Devices and operators each have a listener of their own, but with the predecessor's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listeners {
    Two,
    /// At the address of the operators.
    One,
}

/// One listener, bound and not yet served.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    mappings: Mappings,
    certificate: Option<tls::Certificate>,
}

impl Listener {
    pub async fn bind(name: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let socket = TcpListener::bind(address).await.map_err(|source| BindError { name, address, source })?;
        Ok(Self { name, socket, mappings: Mappings::default(), certificate: None })
    }

    /// Sends these files without a copy.
    #[must_use]
    pub fn sending(self, mappings: Mappings) -> Self {
        Self { mappings, ..self }
    }

    /// Speaks https.
    #[must_use]
    pub fn secured(self, certificate: Option<tls::Certificate>) -> Self {
        Self { certificate, ..self }
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), Fault> {
        let files = Files { socket: self.socket, mappings: self.mappings };
        match self.certificate {
            Some(certificate) => serve(self.name, Secure::new(files, certificate).tap_io(|_| ()), router, stop).await,
            // An answer in two parts must not wait for the acknowledgement of its first.
            None => {
                let prompt = files.tap_io(|connection| {
                    if let Err(error) = connection.set_nodelay() {
                        tracing::debug!(%error, "a connection keeps its delay");
                    }
                });
                serve(self.name, prompt, router, stop).await
            }
        }
    }
}

/// Serves until `stop`; then takes no more and lets what is under way end, for a bounded time.
async fn serve<L, F>(
    name: &'static str,
    listener: TapIo<L, F>,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Fault>
where
    L: axum::serve::Listener<Addr = SocketAddr>,
    F: FnMut(&mut L::Io) + Send + 'static,
{
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let told = stop.clone();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move { told.cancelled().await });
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = async { serving.await } => ended.map_err(|source| Fault { name, source }),
        () = limit => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot bind the http listener for {name} on {address}")]
pub struct BindError {
    pub name: &'static str,
    pub address: SocketAddr,
    pub source: io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("the http listener for {name} ended")]
pub struct Fault {
    name: &'static str,
    source: io::Error,
}
