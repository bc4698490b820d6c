//! Boot files over HTTP: the names of the TFTP server below `/boot/`, for the HTTP boot of EEPROM bootloaders
//! (`HTTP_PATH=boot`) and of UEFI.
//!
//! Bootloaders need a length, also of a HEAD, and take neither chunks nor redirects.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::bootfiles::NotServed;
use crate::core::observation::{FileResult, FileServed, Input, Observation};
use crate::http::device::Device;
use crate::ledger::{Clock, Ledger};

/// How often the ledger is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// Notes that wait for their second; what comes on top is dropped: the timeline may have a gap, a boot may not.
const WAITING: usize = 4096;
/// As long as a TFTP request can be.
const LONGEST_NAME: usize = 512;
/// What goes to the connection at once.
const CHUNK: usize = 64 << 10;

pub async fn give_file(
    State(device): State<Device>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let address = match peer.ip().to_canonical() {
        IpAddr::V4(address) if name.len() <= LONGEST_NAME => address,
        _ => return plain(StatusCode::NOT_FOUND, "file not found\n"),
    };
    let note = Note { served: device.served.clone(), clock: device.ledger.clock(), address, name };
    let bytes = match device.boot_file(&note).await {
        Ok(bytes) => bytes,
        Err(why) => return refused(&note, &why),
    };
    let kind =
        if note.name.to_ascii_lowercase().ends_with(".efi") { "application/efi" } else { "application/octet-stream" };
    let (status, part) = match wanted(&headers, bytes.len()) {
        Ok(None) => (StatusCode::OK, 0..bytes.len()),
        Ok(Some(part)) => (StatusCode::PARTIAL_CONTENT, part),
        Err(()) => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{}", bytes.len()))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, whole, "no such range\n").into_response();
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, part.len())
        .header(header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), bytes.len());
        response = response.header(header::CONTENT_RANGE, range);
    }
    let body = if method == Method::HEAD {
        note.leave(0, FileResult::Probed);
        Body::empty()
    } else {
        Body::from_stream(Sending { rest: bytes.slice(part), sent: 0, note })
    };
    response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

impl Device {
    async fn boot_file(&self, note: &Note) -> Result<Bytes, NotServed> {
        let tenant = self.ledger.tenant(note.address);
        let file = self.files.find(&note.name, tenant.as_ref())?;
        if let Some(bytes) = file.bytes() {
            return Ok(bytes);
        }
        let fault = |source| NotServed::Unreadable { path: note.name.clone().into(), source };
        let read = tokio::task::spawn_blocking(move || file.read()).await;
        read.map_err(|error| fault(std::io::Error::other(error)))?.map_err(fault)
    }
}

/// A bootloader gives up a boot on some numbers and asks again on others: 404 is final, 503 is not.
fn refused(note: &Note, why: &NotServed) -> Response {
    note.leave(0, FileResult::Missing);
    match why {
        NotServed::Missing => {}
        _ => {
            tracing::warn!(peer = %note.address, file = note.name, error = why as &dyn std::error::Error, "boot file is not served")
        }
    }
    match why {
        NotServed::Unreadable { .. } => plain(StatusCode::SERVICE_UNAVAILABLE, "the file cannot be read\n"),
        NotServed::Missing | NotServed::Denied | NotServed::TooLarge { .. } => {
            plain(StatusCode::NOT_FOUND, "file not found\n")
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_LENGTH, HeaderValue::from(text.len()))], text).into_response()
}

/// The part that is asked for (RFC 9110 §14); nothing for the whole. What is not one range of bytes is passed over.
fn wanted(headers: &HeaderMap, len: usize) -> Result<Option<Range<usize>>, ()> {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // The files have no tag or time that `If-Range` could name.
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    if headers.contains_key(header::IF_RANGE) {
        return Ok(None);
    }
    let part = match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(len),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..len,
        (Err(_), Ok(count)) if first.trim().is_empty() => len.saturating_sub(count)..len,
        _ => return Ok(None),
    };
    if part.start < part.end { Ok(Some(part)) } else { Err(()) }
}

/// Boot files that went out, until the ledger is told. A std mutex around a list, never held across a wait: a response
/// that is dropped must be able to say so, and a drop cannot wait.
#[derive(Clone, Default)]
pub struct Served(Arc<Mutex<Vec<(Ipv4Addr, FileServed)>>>);

impl Served {
    fn take(&self) -> Vec<(Ipv4Addr, FileServed)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub async fn run(&self, ledger: &Ledger, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.tell(ledger).await,
                _ = ticks.tick() => self.tell(ledger).await,
            }
        }
    }

    /// One input an address, all at once, so that they share a commit.
    pub async fn tell(&self, ledger: &Ledger) {
        let mut collected = std::collections::BTreeMap::<Ipv4Addr, Vec<FileServed>>::new();
        for (address, file) in self.take() {
            collected.entry(address).or_default().push(file);
        }
        let inputs = collected.into_iter().map(|(address, files)| async move {
            let input = Input::Observed(Observation::BootFiles { address, files });
            if let Err(why) = ledger.submit(input).await {
                tracing::debug!(peer = %address, %why, "boot files go unrecorded");
            }
        });
        join_all(inputs).await;
    }
}

/// Who asked for what.
struct Note {
    served: Served,
    clock: Clock,
    address: Ipv4Addr,
    name: String,
}

impl Note {
    fn leave(&self, bytes: u64, result: FileResult) {
        let file = FileServed { name: self.name.clone(), bytes, result, at: self.clock.now() };
        let mut served = self.served.0.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() < WAITING {
            served.push((self.address, file));
        }
    }
}

/// A body that says at its end how far it came.
struct Sending {
    rest: Bytes,
    sent: u64,
    note: Note,
}

impl Stream for Sending {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(CHUNK);
        let chunk = self.rest.split_to(len);
        self.sent += chunk.len() as u64;
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let result = if self.rest.is_empty() { FileResult::Sent } else { FileResult::Aborted };
        self.note.leave(self.sent, result);
    }
}
