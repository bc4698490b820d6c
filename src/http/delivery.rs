//! The buses as resources: how far each is, what it would not take, what is sent again; and whether the station takes
//! new devices.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::delivery::{EventsReplay, StationDrain};
use crate::core::refusal::Refusal;
use crate::core::results::{Discarded, NowDrained, Resumed};
use crate::core::shown::{JobShown, JournalShown, SinkShown};
use crate::http::error::Failure;
use crate::http::extract::{Asked, Body, Limit, Wishes};
use crate::http::openapi::{Api, Call};
use crate::http::operator::{Operator, order};
use crate::ledger::DeadLetter;

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    let api = api
        .at(
            "/sinks",
            [Call::get(sinks, "list_sinks", "The buses, and how far each has read the journal")
                .told(|told| told.gives::<Sinks>("200", "All of them"))],
        )
        .at(
            "/sinks/{name}",
            [Call::get(sink, "get_sink", "One bus")
                .told(|told| told.gives_as::<SinkShown>("200", "sink", "It").refuses(&[404]))],
        )
        .at(
            "/sinks/{name}/dead-letters",
            [
                Call::get(dead_letters, "list_dead_letters", "Events that a bus would not take, the oldest first")
                    .told(|told| told.query::<Page>().gives::<DeadLetters>("200", "A page").refuses(&[400, 404])),
                Call::delete(discard, "discard_dead_letters", "They are given up")
                    .told(|told| told.query::<Which>().gives::<Discarded>("200", "How many").refuses(&[400, 404, 409])),
            ],
        );
    api.at(
        "/events/replay",
        [Call::post(replay, "replay_events", "Events are sent again to a bus, with their id and sequence").told(
            |told| {
                told.takes::<EventsReplay>()
                    .gives_as::<JobShown>("202", "job", "It was begun; the job tells how far it is")
                    .refuses(&[400, 404, 409, 413, 415, 422])
            },
        )],
    )
    .at(
        "/station/drain",
        [Call::post(drain, "drain_station", "No new sessions begin; those that run go on").told(|told| {
            told.may_take::<StationDrain>()
                .gives::<NowDrained>("200", "Who said so, and what still runs")
                .refuses(&[400, 409, 413, 415, 422])
        })],
    )
    .at(
        "/station/resume",
        [Call::post(resume, "resume_station", "New sessions begin again")
            .told(|told| told.gives::<Resumed>("200", "They do").refuses(&[400, 409]))],
    )
}

/// The buses, and what of the journal is kept for them.
#[derive(Serialize, JsonSchema)]
struct Sinks {
    sinks: Vec<SinkShown>,
    journal: JournalShown,
}

async fn sinks(State(operator): State<Operator>) -> Json<Sinks> {
    let delivery = operator.ledger.delivery();
    Json(Sinks { sinks: delivery.shown(), journal: delivery.shown_journal() })
}

async fn sink(State(operator): State<Operator>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    let delivery = operator.ledger.delivery();
    let sink = delivery.sinks.get(&name).filter(|sink| sink.bus);
    let sink = sink.ok_or_else(|| Refusal::not_found("sink", &name))?;
    Ok(Json(json!({"sink": delivery.shown_sink(&name, sink)})))
}

/// Which dead letters, oldest first.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Page {
    /// Behind this sequence number: `next_after` of the page before.
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: Limit,
}

/// Events that a bus would not take.
#[derive(Serialize, JsonSchema)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    /// `after` of the next page; null where this one is empty.
    next_after: Option<u64>,
}

async fn dead_letters(
    State(operator): State<Operator>,
    Path(name): Path<String>,
    Asked(page): Asked<Page>,
) -> Result<Json<DeadLetters>, Failure> {
    if operator.ledger.delivery().sinks.get(&name).is_none_or(|sink| !sink.bus) {
        return Err(Refusal::not_found("sink", &name).into());
    }
    let dead_letters = operator.ledger.dead_letters(name, page.after, page.limit.0).await?;
    let next_after = dead_letters.last().map(|letter| letter.sequence);
    Ok(Json(DeadLetters { dead_letters, next_after }))
}

/// Which of them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// One; all of them where it is left out.
    sequence: Option<u64>,
}

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

async fn drain(state: State<Operator>, headers: HeaderMap, Wishes(params): Wishes) -> Response {
    order(state, headers, "station.drain", Value::Object(params)).await
}

async fn resume(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "station.resume", json!({})).await
}
