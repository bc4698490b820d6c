//! HTTP: the device side and the operator side, each on a listener of its own.

mod auth;
mod delivery;
pub mod device;
mod error;
mod events;
mod extract;
mod firmware;
mod images;
mod labels;
pub mod operator;
mod sendfile;
mod slots;
mod uploads;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::sendfile::Files;
use crate::images::Mappings;

/// How long a stop waits for requests under way.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub devices: SocketAddrV4,
    pub operators: SocketAddr,
}

/// One listener, bound and not yet served.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    mappings: Mappings,
}

impl Listener {
    pub async fn bind(name: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let socket = TcpListener::bind(address).await.map_err(|source| BindError { name, address, source })?;
        Ok(Self { name, socket, mappings: Mappings::default() })
    }

    /// Sends these files without a copy.
    #[must_use]
    pub fn sending(self, mappings: Mappings) -> Self {
        Self { mappings, ..self }
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop`; then takes no more and lets what is under way end, for a bounded time.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), Fault> {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let told = stop.clone();
        // An answer in two parts must not wait for the acknowledgement of its first.
        let files = Files { socket: self.socket, mappings: self.mappings }.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay() {
                tracing::debug!(%error, "a connection keeps its delay");
            }
        });
        let serving = axum::serve(files, service).with_graceful_shutdown(async move { told.cancelled().await });
        let limit = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = async { serving.await } => ended.map_err(|source| Fault { name: self.name, source }),
            () = limit => Ok(()),
        }
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
