//! The device side (`contract.md` §3): the script, the image, the reports. Asking for a script is open by nature; all
//! that follows is done with the token of the session.

mod boot;
mod flow;
mod form;
mod predecessor;
mod query;
mod ranges;
mod report;
mod scripts;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bootfiles::BootFiles;
use crate::core::observation::{Input, Observation, Report, ScriptAsk};
use crate::core::plan::{Plan, SessionId, Token};
use crate::core::refusal::Refusal;
use crate::core::session::Session;
use crate::core::view::Answer;
use crate::firmware::Firmwares;
use crate::http::device::boot::Served;
use crate::http::device::flow::{Counted, Flows};
use crate::http::device::query::Asked;
use crate::http::device::ranges::Wanted;
use crate::http::error::Failure;
use crate::images::{self, Images};
use crate::ledger::{Ledger, SubmitError};
use crate::script::{self, Setting};

/// Larger than any report of the script.
const MAX_REPORT: usize = 16 << 10;
/// Well within the 120 s after which a silent device is given up.
const PROGRESS_SECONDS: u16 = 2;

/// What lies ready for devices.
#[derive(Clone)]
pub struct Shelves {
    pub images: Images,
    pub firmware: Firmwares,
    pub files: Arc<BootFiles>,
}

/// What the device side answers from. A handle; clone it freely.
#[derive(Clone)]
pub struct Device {
    ledger: Ledger,
    images: Images,
    firmware: Firmwares,
    files: Arc<BootFiles>,
    setting: Setting,
    flows: Flows,
    served: Served,
}

impl Device {
    /// `server` is where devices reach this side.
    pub fn new(ledger: Ledger, shelves: Shelves, server: SocketAddr) -> Self {
        let Shelves { images, firmware, files } = shelves;
        let setting = Setting { server, progress_seconds: PROGRESS_SECONDS };
        Self { ledger, images, firmware, files, setting, flows: Flows::default(), served: Served::default() }
    }

    /// Tells the ledger how images flow and which boot files went out, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.flows.run(&self.ledger, stop.clone()), self.served.run(&self.ledger, stop));
    }

    async fn script(&self, peer: SocketAddr, query: &str) -> Result<String, Refusal> {
        let Asked { serial, mac, facts } = Asked::parse(query)?;
        let ask = ScriptAsk {
            serial,
            mac,
            address: ipv4(peer)?,
            facts,
            fresh_session: SessionId(Uuid::now_v7()),
            fresh_token: fresh_token(),
        };
        let input = Input::Observed(Observation::ScriptAsked(Box::new(ask)));
        let receipt = match self.ledger.submit(input.clone()).await {
            // The first device of a project since its settings changed.
            Err(SubmitError::Refused(refusal)) if refusal.code == "firmware_not_ready" => {
                self.firmware.prepare().await?;
                self.ledger.submit(input).await?
            }
            submitted => submitted?,
        };
        match receipt.answer {
            Answer::Session(session) => Ok(script::render(&self.setting, serial, &session)),
            Answer::Refused(refusal) => Err(refusal),
            Answer::Noted | Answer::Identify | Answer::Dhcp(_) | Answer::Reply(_) => {
                Err(Refusal::new(500, "internal", "the station began no session and gave no reason"))
            }
        }
    }

    async fn session_of(&self, id: &str, headers: &HeaderMap) -> Result<Session, Refusal> {
        let (id, token) = (session_id(id)?, bearer(headers)?);
        let session = self.ledger.session(id).await?.ok_or_else(|| Refusal::not_found("session", id))?;
        if session.token.matches(&token) { Ok(session) } else { Err(bad_token()) }
    }

    async fn observe(&self, session: SessionId, observation: Observation) -> Result<Json<Value>, Failure> {
        match self.ledger.submit(Input::Observed(observation)).await?.answer {
            Answer::Refused(refusal) => Err(refusal.into()),
            // The script looks for these very letters.
            Answer::Identify => Ok(Json(json!({"session": session, "state": "recorded", "identify": true}))),
            _ => Ok(Json(json!({"session": session, "state": "recorded"}))),
        }
    }
}

pub fn router(device: Device) -> Router {
    let session = |what| format!("{}/{{session}}/{what}", script::SESSIONS);
    Router::new()
        // HEAD would begin a session and throw its script away.
        .route("/scriptexecute", get(give_script).head(async || StatusCode::METHOD_NOT_ALLOWED))
        .route("/boot/{*path}", get(boot::give_file))
        .route(&session("image"), get(give_image))
        .route(&session("firmware"), get(give_firmware))
        .route(&session("report"), post(take_report))
        .route(&session("progress"), post(take_progress))
        .route(&session("scripts/{script}"), get(scripts::give))
        .layer(DefaultBodyLimit::max(MAX_REPORT))
        .merge(predecessor())
        .route(&session("scripts/{script}/output"), post(scripts::take_output).layer(scripts::limit()))
        .with_state(device)
}

/// What scripts of the predecessor call.
fn predecessor() -> Router<Device> {
    Router::new()
        .route("/scriptexecute/alldone", get(predecessor::all_done))
        .route("/scriptexecute/error", post(predecessor::error))
        .route("/scriptexecute/eeprom-version", post(predecessor::eeprom_version))
        .route("/downloadimage/{name}", get(predecessor::give_image))
        .route("/downloadeeprom/{name}", get(predecessor::give_eeprom))
        .layer(DefaultBodyLimit::max(predecessor::LARGEST))
}

async fn give_script(
    State(device): State<Device>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Response {
    let script = device.script(peer, query.as_deref().unwrap_or_default()).await;
    if let Err(refusal) = &script {
        tracing::debug!(%peer, code = refusal.code, detail = refusal.detail, "a device is refused its script");
    }
    shell(script)
}

/// Whatever comes out is a shell script: the stock initramfs runs the body of any status. A refusal has status 200,
/// because its curl would only repeat what will not change; 503 it does repeat, and heeds `Retry-After`.
fn shell(script: Result<String, Refusal>) -> Response {
    let busy = matches!(&script, Err(refusal) if refusal.status == 503);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let mut response = (headers, script.unwrap_or_else(|refusal| script::refuse(&refusal))).into_response();
    if busy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

async fn give_image(
    State(device): State<Device>,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, Failure> {
    let session = device.session_of(&id, request.headers()).await?;
    if !session.is_open() {
        return Err(Refusal::new(409, "session_closed", format!("session {} has ended", session.id)).into());
    }
    let tag = tag_of(&session.plan);
    if let Some(status) = precondition(request.headers_mut(), &tag) {
        return Ok((status, [(header::ETAG, tag)]).into_response());
    }
    let mapped = device.images.served(&session.plan).await.map_err(|error| {
        tracing::error!(image = %session.plan.image, session = %session.id, %error, "the file of an image is gone");
        Refusal::new(404, "image_missing", format!("the file of image {} is gone", session.plan.image))
    })?;
    let size = mapped.len();
    let mut headers = HeaderMap::from_iter([
        (header::ETAG, tag),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
    ]);
    let (status, from, to) = match ranges::wanted(request.headers(), size) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part(from, to) => {
            headers.insert(header::CONTENT_RANGE, text_value(format!("bytes {from}-{}/{size}", to - 1)));
            (StatusCode::PARTIAL_CONTENT, from, to)
        }
        Wanted::Beyond => {
            headers.insert(header::CONTENT_RANGE, text_value(format!("bytes */{size}")));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    let body = match *request.method() {
        Method::GET => Body::from_stream(Counted::new(images::stream(mapped, from, to), device.flows.open(session.id))),
        _ => Body::empty(),
    };
    Ok((status, headers, body).into_response())
}

fn text_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and words")
}

/// The digest of the upload; another form of it has other bytes, and so another tag.
fn tag_of(plan: &Plan) -> HeaderValue {
    let form = if plan.transcoded { format!(".{}", plan.compression.as_str()) } else { String::new() };
    HeaderValue::from_str(&format!("\"{}{form}\"", plan.image)).expect("a digest is hex digits")
}

/// The EEPROM image of the plan: small, so it is given whole.
async fn give_firmware(
    State(device): State<Device>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let session = device.session_of(&id, &headers).await?;
    if !session.is_open() {
        return Err(Refusal::new(409, "session_closed", format!("session {} has ended", session.id)).into());
    }
    let plan = session.plan.firmware.as_ref();
    let plan = plan.ok_or_else(|| Refusal::not_found("firmware", format!("in the plan of session {}", session.id)))?;
    let bytes = device.firmware.planned(plan).await.inspect_err(|refusal| {
        tracing::error!(session = %session.id, detail = refusal.detail, "a firmware cannot be given to its device");
    })?;
    let tag = HeaderValue::from_str(&format!("\"{}\"", plan.sha256)).expect("a digest is hex digits");
    let octets = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, octets), (header::ETAG, tag)], bytes).into_response())
}

/// RFC 9110 §13 with the one tag that an image ever has. The file server below knows its own, made from the time and
/// size of the file, so it must not see these headers.
fn precondition(headers: &mut HeaderMap, tag: &HeaderValue) -> Option<StatusCode> {
    const CONDITIONS: [HeaderName; 5] = [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ];
    let [if_match, if_none_match, if_range, ..] = CONDITIONS.map(|name| headers.remove(name));
    let names = |value: &HeaderValue| {
        let tag = tag.to_str().unwrap_or_default();
        value.to_str().is_ok_and(|list| list.split(',').any(|one| [tag, "*"].contains(&one.trim())))
    };
    if if_range.is_some_and(|range| range != tag) {
        headers.remove(header::RANGE);
    }
    if if_match.is_some_and(|value| !names(&value)) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    if_none_match.is_some_and(|value| names(&value)).then_some(StatusCode::NOT_MODIFIED)
}

async fn take_report(
    State(device): State<Device>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let (session, token) = (session_id(&id)?, bearer(&headers)?);
    let body = text(body)?;
    let (what, vitals) = (report::parse(&body)?, report::vitals(&body));
    device.observe(session, Observation::Reported(Report { session, token, what, vitals })).await
}

async fn take_progress(
    State(device): State<Device>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let (session, token) = (session_id(&id)?, bearer(&headers)?);
    let (step, bytes) = report::parse_progress(&text(body)?)?;
    device.observe(session, Observation::Progressed { session, token, step, bytes }).await
}

fn text(body: Result<Bytes, BytesRejection>) -> Result<String, Refusal> {
    let bytes = body.map_err(|_| {
        Refusal::new(413, "too_large", format!("the report was cut off, or is longer than {MAX_REPORT} bytes"))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn session_id(text: &str) -> Result<SessionId, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("session", format!("{text:?}")))
}

fn bearer(headers: &HeaderMap) -> Result<Token, Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.strip_prefix("Bearer ").and_then(|token| token.parse().ok()).ok_or_else(bad_token)
}

fn bad_token() -> Refusal {
    Refusal::new(401, "bad_token", "the token is not that of the session")
}

/// 244 random bits, in 64 hex digits.
fn fresh_token() -> Token {
    let digits = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    digits.parse().expect("64 hex digits are a token")
}

fn ipv4(peer: SocketAddr) -> Result<Ipv4Addr, Refusal> {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(Refusal::new(
            400,
            "unknown_device",
            format!("devices are served over IPv4, this one calls from {address}"),
        )),
    }
}

#[cfg(test)]
mod tests;
