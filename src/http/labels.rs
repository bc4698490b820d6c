//! Labels: their templates, how one would look, and printing by hand.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::command::{LabelPrint, LabelPut};
use crate::core::device::Mac;
use crate::core::label::render::Sheet;
use crate::core::label::{Label, LabelId, LabelJob};
use crate::core::plan::SessionId;
use crate::core::refusal::Refusal;
use crate::core::results::LabelQueued;
use crate::http::error::Failure;
use crate::http::extract::Body;
use crate::http::openapi::{Api, Call};
use crate::http::operator::{Operator, order};

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    api.at(
        "/labels",
        [
            Call::get(list, "list_labels", "Labels of the site")
                .told(|told| told.gives_as::<Vec<Label>>("200", "labels", "All of them, without their texts")),
            Call::post(put, "put_label", "A label, or another text of one").told(|told| {
                told.takes::<LabelPut>().gives_as::<Label>("200", "label", "It is there").refuses(&[400, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/labels/{id}",
        [
            Call::get(show, "get_label", "One label, with its text")
                .told(|told| told.of::<LabelId>().gives_as::<LabelWithText>("200", "label", "It").refuses(&[404])),
            Call::delete(delete, "delete_label", "It goes").told(|told| {
                told.of::<LabelId>().gives_as::<Label>("200", "label", "What was there").refuses(&[400, 404, 409])
            }),
        ],
    )
    .at(
        "/label_jobs",
        [Call::get(
            queue,
            "list_label_jobs",
            "Labels that wait for their printers, in the order in which they were queued",
        )
        .told(|told| told.gives_as::<Vec<LabelJob>>("200", "label_jobs", "All of them"))],
    )
    .at(
        "/labels/{id}/preview",
        [Call::post(preview, "preview_label", "What the printer would get; nothing is printed").told(|told| {
            told.of::<LabelId>()
                .takes::<Whose>()
                .gives_text("200", "text/plain", "The label with its values")
                .refuses(&[400, 404, 413, 415, 422])
        })],
    )
    .at(
        "/labels/{id}/print",
        [Call::post(print, "print_label", "A device's label, once more or for the first time").told(|told| {
            told.of::<LabelId>()
                .takes::<LabelPrint>()
                .without("label")
                .gives::<LabelQueued>("202", "It waits for the printer")
                .refuses(&[400, 404, 409, 413, 415, 422])
        })],
    )
}

/// A label, and what it is made from.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
struct LabelWithText {
    #[serde(flatten)]
    label: Label,
    /// With the places where values go.
    text: String,
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

async fn queue(State(operator): State<Operator>) -> Result<Response, Failure> {
    let jobs = operator.ledger.label_jobs().await?;
    Ok(axum::Json(json!({"label_jobs": jobs})).into_response())
}

async fn newest(operator: &Operator, id: &str) -> Result<(Label, String), Failure> {
    let missing = || Refusal::not_found("label", id);
    let wanted: LabelId = id.parse().map_err(|_| missing())?;
    let labels = operator.ledger.labels().await?;
    let label = labels.into_iter().find(|label| label.id == wanted).ok_or_else(missing)?;
    let text = operator.ledger.label_text(wanted, label.revision).await?.ok_or_else(missing)?;
    Ok((label, text))
}

/// Whose label it would be.
#[derive(Deserialize, JsonSchema)]
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
