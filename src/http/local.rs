//! The operator side at a socket in the data folder, for programs on this machine that are the station's own: whoever
//! can open the folder can do everything to it anyway, so no token is asked for.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::serve::Listener;
use axum::serve::ListenerExt as _;
use axum::{Extension, Router};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::http::auth::Local;
use crate::http::{Fault, serve};

/// Below the data folder.
pub const SOCKET: &str = "operator.sock";

pub struct Door {
    socket: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Only the agent that holds the folder's lock binds it, so what lies there is of an earlier life.
    pub fn bind(data: &Path) -> io::Result<Self> {
        let path = data.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { socket, path })
    }

    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), Fault> {
        let path = self.path.clone();
        let served = serve("the data folder", self.tap_io(|_| ()), router.layer(Extension(Local)), stop).await;
        // Whoever looks for a running station finds none.
        let _ = fs::remove_file(path);
        served
    }
}

impl Listener for Door {
    type Io = UnixStream;
    type Addr = SocketAddr;

    /// Its callers have no address; they are on this machine.
    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        let (stream, _) = Listener::accept(&mut self.socket).await;
        (stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}
