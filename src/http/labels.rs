//! Labels: their templates, how one would look, and printing by hand.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::device::Mac;
use crate::core::label::LabelId;
use crate::core::label::render::Sheet;
use crate::core::plan::SessionId;
use crate::core::refusal::Refusal;
use crate::http::error::Failure;
use crate::http::extract::Body;
use crate::http::operator::{Operator, order};

pub fn router() -> Router<Operator> {
    Router::new()
        .route("/labels", get(list).post(put))
        .route("/labels/{id}", get(show).delete(delete))
        .route("/labels/{id}/preview", post(preview))
        .route("/labels/{id}/print", post(print))
}

async fn list(operator: State<Operator>, headers: HeaderMap) -> Response {
    order(operator, headers, "label.list", json!({})).await
}

async fn put(operator: State<Operator>, headers: HeaderMap, Body(params): Body<Value>) -> Response {
    order(operator, headers, "label.put", params).await
}

async fn delete(operator: State<Operator>, Path(label): Path<String>, headers: HeaderMap) -> Response {
    order(operator, headers, "label.delete", json!({"label": label})).await
}

/// With its text.
async fn show(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Response, Failure> {
    let (label, text) = newest(&operator, &id).await?;
    let mut shown = json!(label);
    shown["text"] = json!(text);
    Ok(axum::Json(json!({"label": shown})).into_response())
}

async fn newest(operator: &Operator, id: &str) -> Result<(crate::core::label::Label, String), Failure> {
    let missing = || Refusal::not_found("label", id);
    let wanted: LabelId = id.parse().map_err(|_| missing())?;
    let labels = operator.ledger.labels().await?;
    let label = labels.into_iter().find(|label| label.id == wanted).ok_or_else(missing)?;
    let text = operator.ledger.label_text(wanted, label.revision).await?.ok_or_else(missing)?;
    Ok((label, text))
}

/// Whose label it would be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    #[serde(default)]
    device: Option<Mac>,
    #[serde(default)]
    session: Option<SessionId>,
    #[serde(default)]
    reprint: bool,
}

/// What the printer would get.
async fn preview(
    State(operator): State<Operator>,
    Path(id): Path<String>,
    Body(Whose { device, session, reprint }): Body<Whose>,
) -> Result<Response, Failure> {
    let (_, text) = newest(&operator, &id).await?;
    let ledger = &operator.ledger;
    let mac = match (device, session) {
        (Some(mac), None) => mac,
        (None, Some(id)) => ledger.session(id).await?.ok_or_else(|| Refusal::not_found("session", id))?.mac,
        _ => return Err(Refusal::invalid("", "name a device or a session, and not both").into()),
    };
    let (known, session) = ledger.device_and_session(mac, session).await?;
    let known = known.ok_or_else(|| Refusal::not_found("device", mac))?;
    let (station, time) = (ledger.identity().station.clone(), ledger.now());
    let rendering = tokio::task::spawn_blocking(move || {
        let (device, session) = (Some(&known), session.as_ref());
        Sheet { station: &station, mac, device, session, time, reprint }.render(&text)
    });
    let rendered = rendering
        .await
        .map_err(|_| Refusal::new(500, "internal", "the label was not rendered"))?
        .map_err(|fault| Refusal::new(422, "label.template", format!("label {id}: {fault}")))?;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], rendered).into_response())
}

/// `{"device" | "session", "printer", "reprint"}`
async fn print(operator: State<Operator>, Path(label): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(Value::Object(mut params)) = serde_json::from_slice(&body) else {
        return Failure(Refusal::invalid("", "not a JSON object with a device or a session")).into_response();
    };
    params.insert("label".to_owned(), json!(label));
    order(operator, headers, "label.print", Value::Object(params)).await
}
