//! Places on the line: what they are, power for them, and their release.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::core::refusal::Refusal;
use crate::http::error::Failure;
use crate::http::operator::{Operator, order};

pub fn router() -> Router<Operator> {
    Router::new()
        .route("/slots", get(list))
        .route("/slots/{slot}/power", post(power))
        .route("/slots/{slot}/release", post(release))
        .route("/devices/{id}/power_cycle", post(power_cycle))
}

async fn list(operator: State<Operator>, headers: HeaderMap) -> Response {
    order(operator, headers, "slot.list", json!({})).await
}

async fn release(operator: State<Operator>, Path(slot): Path<String>, headers: HeaderMap) -> Response {
    order(operator, headers, "slot.release", json!({"slot": slot})).await
}

async fn power_cycle(operator: State<Operator>, Path(device): Path<String>, headers: HeaderMap) -> Response {
    order(operator, headers, "device.power_cycle", json!({"device": device})).await
}

/// `{"action": "off" | "on" | "cycle"}`
async fn power(operator: State<Operator>, Path(slot): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut params: Value = match serde_json::from_slice(&body) {
        Ok(params @ Value::Object(_)) => params,
        Ok(_) | Err(_) => {
            return Failure(Refusal::invalid("", "not a JSON object with an action")).into_response();
        }
    };
    params["slot"] = json!(slot);
    order(operator, headers, "slot.power", params).await
}
