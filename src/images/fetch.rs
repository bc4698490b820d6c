//! Files from the network: fetched by HTTP with retries, going on where a connection broke off. Nothing but `http` and
//! `https` is spoken, and neither a query nor a header of a request is ever told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use crate::core::job::{ImageUrl, Job};
use crate::core::refusal::Refusal;
use crate::images::background::{self, Priority};
use crate::images::decode::Meter;
use crate::images::ingest::refusal_of;
use crate::images::partial::{Label, Partial};
use crate::images::survey::MAX_RAW;
use crate::images::{CHUNKS, Images};
use crate::trust;

const REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(15);
/// Without a byte for so long, the connection is given up and the file asked for again.
const IDLE: Duration = Duration::from_secs(60);
/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether the job was cancelled.
const LOOK: Duration = Duration::from_millis(200);

/// What ended an attempt.
enum Broken {
    /// It may go better next time.
    Again(String),
    Never(Refusal),
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Never(refusal)
    }
}

fn again(error: impl std::fmt::Display) -> Broken {
    Broken::Again(error.to_string())
}

/// Fetches the file of a job and hands it on to be looked at.
pub async fn run(images: &Images, job: &Job, meter: &Arc<Meter>) -> Result<(), Refusal> {
    let Some(url) = &job.url else {
        return Err(Refusal::new(500, "internal", "a job without a URL cannot be fetched"));
    };
    let fetched = persist(images, job, url, meter).await;
    // When the station stops, what has come is kept for its next start.
    let stopping = meter.cancelled.load(Ordering::Relaxed)
        && images.ledger.job(job.id.as_str()).await.is_ok_and(|job| job.is_some_and(|job| job.is_open()));
    if fetched.is_err()
        && !stopping
        && let Err(error) = crate::images::partial::forget(&images.library.fetch, job.id.as_str())
    {
        tracing::warn!(%error, job = %job.id, "cannot remove what was fetched");
    }
    fetched
}

/// Ends early when the job is cancelled.
async fn unless_cancelled<T>(meter: &Meter, work: impl Future<Output = T>) -> Result<T, Broken> {
    tokio::select! {
        done = work => Ok(done),
        () = cancelled(meter) => Err(Refusal::new(409, "canceled", "it was cancelled").into()),
    }
}

async fn cancelled(meter: &Meter) {
    let mut looks = tokio::time::interval(LOOK);
    while !meter.cancelled.load(Ordering::Relaxed) {
        looks.tick().await;
    }
}

async fn persist(images: &Images, job: &Job, url: &ImageUrl, meter: &Arc<Meter>) -> Result<(), Refusal> {
    let mut failures = 0;
    let mut best = 0;
    loop {
        match attempt(images, job, url, meter).await {
            Ok(()) => return Ok(()),
            Err(Broken::Never(refusal)) => return Err(refusal),
            Err(Broken::Again(why)) => {
                let done = meter.done.load(Ordering::Relaxed);
                failures = if done > best { 0 } else { failures + 1 };
                best = best.max(done);
                tracing::debug!(job = %job.id, url = url.shown(), why, failures, "fetching an image is tried again");
                if failures >= ATTEMPTS {
                    let detail = format!("{} could not be fetched: {why}", url.shown());
                    return Err(Refusal::new(502, "fetch_failed", detail).retryable());
                }
            }
        }
        let pause = tokio::time::sleep(LONGEST_PAUSE.min(Duration::from_secs(1 << failures.min(6))));
        if let Err(Broken::Never(refusal)) = unless_cancelled(meter, pause).await {
            return Err(refusal);
        }
    }
}

async fn attempt(images: &Images, job: &Job, url: &ImageUrl, meter: &Arc<Meter>) -> Result<(), Broken> {
    let mut partial = begun(images, job).await?;
    meter.done.store(partial.label.offset, Ordering::Relaxed);
    // Without the word of the server that it is the same file, what is there may belong to another version of it.
    if partial.label.etag.is_none() && partial.label.offset > 0 {
        partial.rewind().map_err(|error| refusal_of(&error))?;
    }
    if partial.label.length.is_none_or(|length| partial.label.offset < length) {
        let response = unless_cancelled(meter, ask(url, &partial.label)).await??;
        accept(images, &response, &mut partial)?;
        meter.done.store(partial.label.offset, Ordering::Relaxed);
        meter.total.store(partial.label.length.unwrap_or(0), Ordering::Relaxed);
        partial = pour(images, response, partial, meter).await?;
    }
    finish(images, job, partial).await?;
    Ok(())
}

async fn begun(images: &Images, job: &Job) -> Result<Partial, Refusal> {
    let (folder, id) = (images.library.fetch.clone(), job.id.to_string());
    let label =
        Label { name: job.name.clone(), sha256: job.sha256, touched_at: images.ledger.now(), ..Label::default() };
    let opened = move || match Partial::open(&folder, &id)? {
        Some(partial) => Ok(partial),
        None => Partial::create(&folder, &id, label),
    };
    background::run("fetch", Priority::Low, opened).await?.map_err(|error: std::io::Error| refusal_of(&error))
}

/// Follows redirects to the file itself.
async fn ask(url: &ImageUrl, label: &Label) -> Result<Response<Incoming>, Broken> {
    let invalid = |why: &str| Refusal::invalid("/params/url", why.to_owned());
    let mut url = Url::parse(url.as_str()).map_err(|_| invalid("it does not read as a URL"))?;
    for _ in 0..=REDIRECTS {
        let response = timeout(IDLE, send(&url, label)).await.map_err(|_| again("the server does not answer"))??;
        if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let place = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok()).unwrap_or_default();
        let next = url.join(place).map_err(|_| invalid("it redirects to what is no URL"))?;
        // From https to http the way would no longer be the one that was asked for.
        let downgrade = url.scheme() == "https" && next.scheme() != "https";
        if downgrade || !["http", "https"].contains(&next.scheme()) || !next.username().is_empty() {
            return Err(Refusal::new(502, "fetch_failed", "it redirects to where this station does not go").into());
        }
        url = next;
    }
    Err(Refusal::new(502, "fetch_failed", format!("it redirects more than {REDIRECTS} times")).into())
}

async fn send(url: &Url, label: &Label) -> Result<Response<Incoming>, Broken> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = timeout(CONNECT, TcpStream::connect((bare.as_str(), port)))
        .await
        .map_err(|_| again("no connection in time"))?
        .map_err(again)?;
    let request = request(url, &host, label)?;
    if url.scheme() == "https" {
        let name = ServerName::try_from(bare).map_err(again)?;
        let stream = timeout(CONNECT, trust::connector(None).map_err(again)?.connect(name, stream))
            .await
            .map_err(|_| again("no TLS in time"))?
            .map_err(|error| untrusted(&host, error))?;
        exchange(TokioIo::new(stream), request).await
    } else {
        exchange(TokioIo::new(stream), request).await
    }
}

/// A certificate that is not trusted will not be trusted the next time; all else may pass.
fn untrusted(host: &str, error: std::io::Error) -> Broken {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>()) {
        Some(tokio_rustls::rustls::Error::InvalidCertificate(why)) => {
            let detail = format!(
                "the certificate of {host} is not trusted: {why}; put its issuer into the certificates of the system, or \
                 into the file that SSL_CERT_FILE names, and start the station anew"
            );
            Refusal::new(502, "fetch_untrusted", detail).into()
        }
        _ => again(error),
    }
}

fn request(url: &Url, host: &str, label: &Label) -> Result<Request<Empty<Bytes>>, Broken> {
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("bootline/", env!("CARGO_PKG_VERSION")))
        // The file as it is: what the server would pack on the way has another digest.
        .header(header::ACCEPT_ENCODING, "identity");
    if let Some(etag) = label.etag.as_ref().filter(|_| label.offset > 0) {
        request = request.header(header::RANGE, format!("bytes={}-", label.offset)).header(header::IF_RANGE, etag);
    }
    request.body(Empty::new()).map_err(again)
}

async fn exchange<S>(stream: TokioIo<S>, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Broken>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(again)?;
    // It ends with the response, or when that is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection for an image broke off");
        }
    });
    sender.send_request(request).await.map_err(again)
}

/// Does the answer go on where the file ends, or begin anew?
fn accept(images: &Images, response: &Response<Incoming>, partial: &mut Partial) -> Result<(), Broken> {
    let headers = response.headers();
    let begins = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT => range_start(headers).ok_or_else(|| again("a range that does not say which"))?,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => return Err(again(response.status())),
        status if status.is_server_error() => return Err(again(status)),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            partial.rewind().map_err(|error| refusal_of(&error))?;
            return Err(again("the file has changed"));
        }
        status => {
            return Err(Refusal::new(502, "fetch_failed", format!("the server answers {status}")).into());
        }
    };
    if begins != partial.label.offset {
        partial.rewind().map_err(|error| refusal_of(&error))?;
        if begins != 0 {
            return Err(again("another range than asked for"));
        }
    }
    let rest = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if begins == 0 {
        partial.label.length = rest;
        partial.label.etag = strong_tag(headers);
    }
    if rest.is_some_and(|rest| rest.saturating_add(begins) > MAX_RAW) {
        return Err(Refusal::new(413, "too_large", format!("the image is larger than {MAX_RAW} bytes")).into());
    }
    images.library.room_for(rest.unwrap_or(0)).map_err(|error| refusal_of(&error))?;
    Ok(())
}

/// Of `bytes 100-199/200`, the 100.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A weak one does not promise the same bytes (RFC 9110 §13.1.5).
fn strong_tag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG).map(HeaderValue::to_str)?.ok()?;
    (!tag.starts_with("W/")).then(|| tag.to_owned())
}

/// What comes is written on a thread of its own. What has come is kept, however it ends.
async fn pour(
    images: &Images,
    response: Response<Incoming>,
    partial: Partial,
    meter: &Arc<Meter>,
) -> Result<Partial, Broken> {
    let (chunks, inbox) = mpsc::channel(CHUNKS);
    let (library, counted) = (images.library.clone(), Arc::clone(meter));
    let writing = background::run("fetch", Priority::Low, move || write(partial, inbox, &library, &counted));
    // The channel closes with the reader, and then the writer ends.
    let reading = unless_cancelled(meter, receive(response, chunks));
    let (written, read) = futures_util::future::join(writing, reading).await;
    let partial = written??;
    read??;
    match partial.label.length {
        Some(length) if partial.label.offset < length => Err(again("the connection ended before the file did")),
        _ => Ok(partial),
    }
}

async fn receive(response: Response<Incoming>, chunks: mpsc::Sender<Bytes>) -> Result<(), Broken> {
    let mut body = response.into_body();
    loop {
        let frame = timeout(IDLE, body.frame()).await;
        match frame.map_err(|_| again(format_args!("no byte for {} s", IDLE.as_secs())))? {
            None => return Ok(()),
            Some(Err(error)) => return Err(again(error)),
            Some(Ok(frame)) => {
                // A writer that is gone says itself why.
                if let Ok(bytes) = frame.into_data()
                    && chunks.send(bytes).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }
}

fn write(
    mut partial: Partial,
    mut inbox: mpsc::Receiver<Bytes>,
    library: &crate::images::library::Library,
    meter: &Meter,
) -> Result<Partial, Refusal> {
    let wrong = |error: std::io::Error| refusal_of(&error);
    let mut unchecked = 0;
    while let Some(bytes) = inbox.blocking_recv() {
        if partial.label.offset + bytes.len() as u64 > partial.label.length.unwrap_or(MAX_RAW) {
            return Err(Refusal::new(502, "fetch_failed", "the server sends more than it announced"));
        }
        unchecked += bytes.len();
        if unchecked > 64 << 20 {
            unchecked = 0;
            library.room_for(0).map_err(wrong)?;
        }
        partial.write(&bytes).map_err(wrong)?;
        meter.done.store(partial.label.offset, Ordering::Relaxed);
    }
    partial.save().map_err(wrong)?;
    Ok(partial)
}

async fn finish(images: &Images, job: &Job, partial: Partial) -> Result<(), Refusal> {
    let (images, job, handle) = (images.clone(), job.clone(), Handle::current());
    background::run("fetch", Priority::Low, move || images.complete(partial, job, &handle)).await?
}
