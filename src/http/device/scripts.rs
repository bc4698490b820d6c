//! The scripts of a session: their text to the device, and what they have printed back to the ledger.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http};
use serde_json::Value;

use crate::core::observation::{Observation, ScriptOutput};
use crate::core::refusal::Refusal;
use crate::core::script::ScriptId;
use crate::http::device::{Device, bearer, session_id};
use crate::http::error::Failure;

/// What is kept of the output of one script; the device sends no more.
const MAX_OUTPUT: usize = 1 << 20;

pub fn limit() -> DefaultBodyLimit {
    // A byte more says that there was more.
    DefaultBodyLimit::max(MAX_OUTPUT + 1)
}

fn script_id(text: &str) -> Result<ScriptId, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("script", format!("{text:?}")))
}

/// As it was when the session began.
pub async fn give(
    State(device): State<Device>,
    Path((id, script)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let session = device.session_of(&id, &headers).await?;
    let script = script_id(&script)?;
    let missing = || Refusal::not_found("script", format!("{script} in the plan of session {}", session.id));
    let planned = session.plan.scripts.all().find(|planned| planned.script == script).ok_or_else(missing)?;
    let text = device.ledger.script_text(script.clone(), planned.revision).await?.ok_or_else(missing)?;
    let shell = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, shell)], text).into_response())
}

pub async fn take_output(
    State(device): State<Device>,
    Path((id, script)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let (session, token, script) = (session_id(&id)?, bearer(&headers)?, script_id(&script)?);
    let too_long = |_| {
        let status = http::StatusCode::PAYLOAD_TOO_LARGE.as_u16();
        Refusal::new(status, "too_large", format!("the output was cut off, or is longer than {MAX_OUTPUT} bytes"))
    };
    let bytes = body.map_err(too_long)?;
    let truncated = bytes.len() > MAX_OUTPUT;
    // SQLite keeps a NUL and shows nothing behind it.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_OUTPUT)]).replace('\0', "\u{fffd}");
    let output = ScriptOutput { session, token, script, text, truncated };
    device.observe(session, Observation::ScriptOutput(Box::new(output))).await
}
