//! Places on the line: what they are, power for them, and their release.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::core::command::{SlotPower, SlotWord};
use crate::core::results::PowerAsked;
use crate::core::shown::SlotShown;
use crate::core::slot::SlotName;
use crate::http::error::Failure;
use crate::http::extract::Body;
use crate::http::openapi::{Api, Call};
use crate::http::operator::{Operator, find, order};

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    api.at(
        "/slots",
        [Call::get(list, "list_slots", "The places of the line, and how it goes there")
            .told(|told| told.gives_as::<Vec<SlotShown>>("200", "slots", "All of them"))],
    )
    .at(
        "/slots/{slot}/power",
        [Call::post(power, "power_slot", "Power over Ethernet of a place goes off, on, or off and on").told(|told| {
            told.of::<SlotName>()
                .takes::<SlotPower>()
                .without("slot")
                .gives::<PowerAsked>("202", "The switch is asked; `slot.powered` or `slot.power.failed` is said then")
                .refuses(&[400, 404, 409, 413, 415, 422])
        })],
    )
    .at(
        "/slots/{slot}/release",
        [Call::post(release, "release_slot", "A place that was closed after failures is open again")
            .told(|told| told.of::<SlotName>().gives::<SlotWord>("200", "It is open").refuses(&[400, 404, 409]))],
    )
    .at(
        "/devices/{id}/power_cycle",
        [Call::post(power_cycle, "power_cycle_device", "Power is taken from the place where it is, and given back")
            .told(|told| told.gives::<PowerAsked>("202", "The switch is asked").refuses(&[400, 404, 409]))],
    )
}

async fn list(operator: State<Operator>, headers: HeaderMap) -> Response {
    order(operator, headers, "slot.list", json!({})).await
}

async fn release(operator: State<Operator>, Path(slot): Path<String>, headers: HeaderMap) -> Response {
    order(operator, headers, "slot.release", json!({"slot": slot})).await
}

async fn power_cycle(
    operator: State<Operator>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let device = find(&operator, &id).await?;
    Ok(order(operator, headers, "device.power_cycle", json!({"device": device.mac})).await)
}

/// `{"action": "off" | "on" | "cycle"}`
async fn power(
    operator: State<Operator>,
    Path(slot): Path<String>,
    headers: HeaderMap,
    Body(mut params): Body<Map<String, Value>>,
) -> Response {
    params.insert("slot".to_owned(), json!(slot));
    order(operator, headers, "slot.power", Value::Object(params)).await
}
