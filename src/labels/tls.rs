//! TLS to a printer: whom the system trusts, and the certificates of a file that the configuration names. Read anew for
//! each label, so that a printer with a new certificate needs no restart.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::labels::Fault;

/// `address` is host and port.
pub async fn wrap(stream: TcpStream, address: &str, ca: Option<&Path>) -> Result<TlsStream<TcpStream>, Fault> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let refused = |what: String| Fault::Refused(format!("no TLS with {host}: {what}"));
    let name = ServerName::try_from(host.clone()).map_err(|error| refused(error.to_string()))?;
    let named = ca.map(Path::to_owned);
    let connector = tokio::task::spawn_blocking(move || connector(named.as_deref()));
    let connector = connector.await.map_err(|error| refused(error.to_string()))?.map_err(refused)?;
    connector.connect(name, stream).await.map_err(|error: io::Error| refused(error.to_string()))
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let wrong = |what: String| format!("cannot read a certificate from {}: {what}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
