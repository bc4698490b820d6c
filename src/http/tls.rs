//! TLS of the operator side: a certificate from files, which are read again when they change, or one that the station
//! makes for itself at its first start. Plain HTTP at this port is told where to go.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::serve::Listener;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;

use crate::core::image::Digest;
use crate::http::sendfile::{Connection, Files};

/// Whoever has not agreed on keys by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; more wait in the kernel.
const AT_ONCE: usize = 256;
/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(5);

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// In this folder, for these names.
    SelfSigned {
        folder: PathBuf,
        names: Vec<String>,
    },
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
}

/// The certificate that is shown, and where it comes from.
#[derive(Clone)]
pub struct Certificate {
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct Shown {
    cert: PathBuf,
    key: PathBuf,
    now: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    pair: Arc<CertifiedKey>,
    changed: Stamp,
    looked: Instant,
}

type Stamp = [Option<SystemTime>; 2];

impl Certificate {
    pub fn open(settings: &Settings) -> Result<Self, TlsError> {
        let (cert, key) = match settings {
            Settings::Files { cert, key } => (cert.clone(), key.clone()),
            Settings::SelfSigned { folder, names } => made(folder, names)?,
        };
        let changed = stamp(&cert, &key);
        let pair = read(&cert, &key)?;
        tracing::info!(certificate = %cert.display(), sha256 = %fingerprint(&pair), "https on the operator side");
        let shown = Arc::new(Shown { cert, key, now: Mutex::new(Read { pair, changed, looked: Instant::now() }) });
        let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = versions
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Pair { path: shown.cert.clone(), what: error.to_string() })?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { shown, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

impl Shown {
    /// Files that changed are read again; where that fails, the certificate at hand stays.
    fn look(&self) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.looked.elapsed() < LOOK {
            return;
        }
        now.looked = Instant::now();
        let changed = stamp(&self.cert, &self.key);
        if changed == now.changed {
            return;
        }
        match read(&self.cert, &self.key) {
            Ok(pair) => {
                tracing::info!(sha256 = %fingerprint(&pair), "the certificate was read anew");
                (now.pair, now.changed) = (pair, changed);
            }
            Err(error) => tracing::warn!(%error, "the certificate has changed and cannot be read; the old one stays"),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner).pair))
    }
}

fn stamp(cert: &Path, key: &Path) -> Stamp {
    [cert, key].map(|path| fs::metadata(path).and_then(|found| found.modified()).ok())
}

fn fingerprint(pair: &CertifiedKey) -> Digest {
    Digest::new(Sha256::digest(pair.cert.first().map(AsRef::as_ref).unwrap_or_default()).into())
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let wrong = |path: &Path, what: String| TlsError::Pair { path: path.to_owned(), what };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(cert, "there is no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let pair = CertifiedKey::from_der(chain, private, &ring::default_provider());
    Ok(Arc::new(pair.map_err(|error| wrong(key, error.to_string()))?))
}

/// Once it is there it stays, so that clients who trust it go on doing so.
fn made(folder: &Path, names: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    let pair = rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Pair {
        path: cert.clone(),
        what: format!("cannot make a certificate for {}: {error}", names.join(", ")),
    })?;
    write(&key, &pair.signing_key.serialize_pem()).map_err(io(&key))?;
    write(&cert, &pair.cert.pem()).map_err(io(&cert))?;
    Ok((cert, key))
}

/// Whole or not at all, and for nobody else to read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, path)
}

type Ready = (TlsStream<Connection>, SocketAddr);

/// Accepts connections that have agreed on keys; a client that dawdles keeps nobody waiting.
pub struct Secure {
    files: Files,
    certificate: Certificate,
    shaking: JoinSet<Option<Ready>>,
}

impl Secure {
    pub fn new(files: Files, certificate: Certificate) -> Self {
        Self { files, certificate, shaking: JoinSet::new() }
    }
}

impl Listener for Secure {
    type Io = TlsStream<Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Ready {
        loop {
            // Cancel-safe: a connection that was accepted is in the set before anything is awaited.
            tokio::select! {
                (connection, peer) = self.files.accept(), if self.shaking.len() < AT_ONCE => {
                    self.certificate.shown.look();
                    let acceptor = self.certificate.acceptor.clone();
                    self.shaking.spawn(async move { timeout(HANDSHAKE, shake(acceptor, connection, peer)).await.ok()? });
                }
                Some(shaken) = self.shaking.join_next() => {
                    if let Ok(Some(ready)) = shaken {
                        return ready;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.files.local_addr()
    }
}

async fn shake(acceptor: TlsAcceptor, connection: Connection, peer: SocketAddr) -> Option<Ready> {
    if let Err(error) = connection.set_nodelay() {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    // RFC 8446 §5.1: whatever begins a handshake begins with 22.
    match connection.peek_byte().await {
        Ok(Some(22)) => {}
        Ok(Some(_)) => {
            redirect(connection).await.ok()?;
            return None;
        }
        Ok(None) | Err(_) => return None,
    }
    match acceptor.accept(connection).await {
        Ok(stream) => Some((stream, peer)),
        Err(error) => {
            tracing::debug!(%peer, %error, "a client agrees on no keys");
            None
        }
    }
}

/// Somebody has left out the `s`: a browser is led to the right place, another client is told.
async fn redirect(mut connection: Connection) -> io::Result<()> {
    let mut head = Vec::new();
    while head.len() < 8 << 10 && !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if connection.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let told = "this port speaks https\n";
    let answer = match place(&String::from_utf8_lossy(&head)) {
        Some(place) => format!("HTTP/1.1 308 Permanent Redirect\r\nLocation: {place}\r\n"),
        None => "HTTP/1.1 400 Bad Request\r\n".to_owned(),
    };
    let rest = format!("Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{told}", told.len());
    connection.write_all((answer + &rest).as_bytes()).await?;
    connection.shutdown().await
}

/// Only of what has no body: a token that went in the clear once must not be sent again as if nothing had happened.
fn place(head: &str) -> Option<String> {
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let field = |line: &str, name: &str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    let (mut host, mut secret) = (None, false);
    for line in lines {
        host = host.or_else(|| field(line, "host"));
        secret |= field(line, "authorization").is_some();
    }
    let host = host.filter(|host| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b)))?;
    let plain = target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic());
    (["GET", "HEAD"].contains(&method) && plain && !secret).then(|| format!("https://{host}{target}"))
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("http.tls: {path}: {what}")]
    Pair { path: PathBuf, what: String },
    #[error("http.tls: cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_led_to_https_where_that_does_no_harm() {
        let get = "GET /a?b=1 HTTP/1.1\r\nHost: station:8080\r\n\r\n";
        assert_eq!(place(get).as_deref(), Some("https://station:8080/a?b=1"));
        for wrong in [
            "POST /a HTTP/1.1\r\nHost: station\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: station\r\nAuthorization: Bearer x\r\n\r\n",
            "GET //evil HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET http://evil/ HTTP/1.1\r\nHost: station\r\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "",
            "\u{0}",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_changes_is_read_anew_and_a_broken_one_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let settings = Settings::SelfSigned { folder: folder.path().to_owned(), names: names.clone() };
        let certificate = Certificate::open(&settings).unwrap();
        let shown = || fingerprint(&certificate.shown.now.lock().unwrap().pair);
        let first = shown();
        assert!(
            Certificate::open(&settings).is_ok_and(|again| fingerprint(&again.shown.now.lock().unwrap().pair) == first)
        );

        let other = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(folder.path().join("key.pem"), other.signing_key.serialize_pem()).unwrap();
        fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
        tokio::time::advance(LOOK).await;
        certificate.shown.look();
        assert_eq!(shown(), first);

        fs::write(folder.path().join("cert.pem"), other.cert.pem()).unwrap();
        let file = fs::File::open(folder.path().join("cert.pem")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        tokio::time::advance(LOOK).await;
        certificate.shown.look();
        assert_ne!(shown(), first);
    }
}
