//! TLS to a printer.

use std::io;
use std::path::Path;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::labels::Fault;
use crate::trust;

/// `address` is host and port; `ca` has certificates that are trusted beside those of the system.
pub async fn wrap(stream: TcpStream, address: &str, ca: Option<&Path>) -> Result<TlsStream<TcpStream>, Fault> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let refused = |what: String| Fault::Refused(format!("no TLS with {host}: {what}"));
    let name = ServerName::try_from(host.clone()).map_err(|error| refused(error.to_string()))?;
    let named = ca.map(Path::to_owned);
    let connector = tokio::task::spawn_blocking(move || trust::connector(named.as_deref()));
    let connector = connector.await.map_err(|error| refused(error.to_string()))?.map_err(refused)?;
    connector.connect(name, stream).await.map_err(|error: io::Error| refused(error.to_string()))
}
