//! The buses as resources: how far each is, what it would not take, what is sent again; and whether the station takes
//! new devices.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::core::refusal::Refusal;
use crate::http::error::Failure;
use crate::http::extract::{Asked, Body};
use crate::http::operator::{Operator, order};

pub fn router() -> Router<Operator> {
    Router::new()
        .route("/sinks", get(sinks))
        .route("/sinks/{name}", get(sink))
        .route("/sinks/{name}/dead-letters", get(dead_letters).delete(discard))
        .route("/events/replay", post(replay))
        .route("/station/drain", post(drain))
        .route("/station/resume", post(resume))
}

async fn sinks(State(operator): State<Operator>) -> Json<Value> {
    let delivery = operator.ledger.delivery();
    Json(json!({"sinks": delivery.shown(), "journal": delivery.shown_journal()}))
}

async fn sink(State(operator): State<Operator>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    let delivery = operator.ledger.delivery();
    let sink = delivery.sinks.get(&name).filter(|sink| sink.bus);
    let sink = sink.ok_or_else(|| Refusal::not_found("sink", &name))?;
    Ok(Json(json!({"sink": delivery.shown_sink(&name, sink)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

async fn dead_letters(
    State(operator): State<Operator>,
    Path(name): Path<String>,
    Asked(page): Asked<Page>,
) -> Result<Json<Value>, Failure> {
    if operator.ledger.delivery().sinks.get(&name).is_none_or(|sink| !sink.bus) {
        return Err(Refusal::not_found("sink", &name).into());
    }
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let letters = operator.ledger.dead_letters(name, page.after, limit).await?;
    let next = letters.last().map(|letter| letter.sequence);
    Ok(Json(json!({"dead_letters": letters, "next_after": next})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    sequence: Option<u64>,
}

/// Without `sequence` all of them.
async fn discard(
    state: State<Operator>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Asked(which): Asked<Which>,
) -> Response {
    order(state, headers, "events.discard", json!({"sink": name, "sequence": which.sequence})).await
}

async fn replay(state: State<Operator>, headers: HeaderMap, Body(params): Body<Map<String, Value>>) -> Response {
    order(state, headers, "events.replay", Value::Object(params)).await
}

async fn drain(state: State<Operator>, headers: HeaderMap, Body(params): Body<Map<String, Value>>) -> Response {
    order(state, headers, "station.drain", Value::Object(params)).await
}

async fn resume(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "station.resume", json!({})).await
}
