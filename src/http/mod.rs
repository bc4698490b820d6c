//! HTTP: the device side and the operator side, each on a listener of its own.

mod auth;
pub mod device;
mod error;
mod events;
mod extract;
mod firmware;
mod images;
pub mod operator;
mod uploads;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
}

impl Listener {
    pub async fn bind(name: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let socket = TcpListener::bind(address).await.map_err(|source| BindError { name, address, source })?;
        Ok(Self { name, socket })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop`; then takes no more and lets what is under way end, for a bounded time.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), Fault> {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let told = stop.clone();
        let serving = axum::serve(self.socket, service).with_graceful_shutdown(async move { told.cancelled().await });
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
