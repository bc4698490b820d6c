//! The operator side: `/api/v1` (`contract.md` §4). Every unsafe call is a command through the same door as the bus.

use axum::Json;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::core::command::{Envelope, Reply, Status, Transport};
use crate::core::device::{Mac, Serial};
use crate::core::floor::Device;
use crate::core::refusal::Refusal;
use crate::core::session::Session;
use crate::firmware::Firmwares;
use crate::http::error::{Failure, problem};
use crate::http::extract::{Asked, Body};
use crate::http::{auth, delivery, events, firmware, images, slots, uploads};
use crate::images::Images;
use crate::ledger::{Ledger, SessionFilter};
use crate::metrics::Metrics;

/// What the operator side answers from.
#[derive(Clone)]
pub struct Operator {
    pub ledger: Ledger,
    pub images: Images,
    pub firmware: Firmwares,
    pub metrics: Metrics,
}

pub fn router(operator: Operator) -> Router {
    let form = DefaultBodyLimit::max(firmware::LARGEST_FORM);
    let api = Router::new()
        .route("/commands", post(command))
        .route("/station", get(|state, headers| async { order(state, headers, "station.info", json!({})).await }))
        .route("/projects", get(projects).post(create_project))
        .route("/projects/{id}", get(project).patch(update_project).delete(delete_project))
        .route("/projects/{id}/activate", post(activate_project))
        .route("/projects/{id}/deactivate", post(deactivate_project))
        .route("/scripts", get(scripts).post(put_script))
        .route("/scripts/{id}", get(script).delete(delete_script))
        .route("/rules", get(rules).put(set_rules))
        .route("/rules/test", post(test_rules))
        // An image is streamed and has a limit of its own; without this a form ends at 2 MB.
        .route("/images", get(images::list).post(images::upload).layer(DefaultBodyLimit::disable()))
        .route("/images/import", post(images::import))
        .route("/images/fetch", post(images::fetch))
        .route("/images/{id}", get(images::show).delete(images::delete))
        .route("/firmware", get(firmware::list).post(firmware::upload).layer(form))
        .route("/firmware/import", post(firmware::import))
        .route("/firmware/{id}", get(firmware::show).delete(firmware::delete))
        .route("/firmware/{id}/content", get(firmware::content))
        .route("/firmware/{id}/pieeprom.sig", get(firmware::signature))
        .route("/jobs", get(images::jobs))
        .route("/jobs/{id}", get(images::job))
        .route("/jobs/{id}/cancel", post(images::cancel))
        .merge(uploads::router())
        .merge(slots::router())
        .merge(crate::http::labels::router())
        .merge(delivery::router())
        .route("/devices", get(devices))
        .route("/devices/{id}", get(device))
        .route("/devices/{id}/authorize", post(authorize_device))
        .route("/devices/{id}/abort", post(abort_device))
        .route("/devices/{id}/assign", post(assign_device))
        .route("/devices/{id}/unassign", post(unassign_device))
        .route("/sessions", get(sessions))
        .route("/sessions/{id}", get(session))
        .route("/sessions/{id}/output", get(output))
        .route("/events", get(events::page))
        .route("/events/stream", get(events::stream))
        .fallback(missing);
    Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn(auth::guard))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(ready))
        .fallback(missing)
        .with_state(operator)
}

async fn missing(OriginalUri(uri): OriginalUri) -> Failure {
    Failure(Refusal::new(404, "not_found", format!("there is nothing at {}", uri.path())))
}

async fn ready(State(operator): State<Operator>) -> Response {
    if operator.ledger.is_healthy() {
        Json(json!({"status": "ready"})).into_response()
    } else {
        Failure(Refusal::new(503, "unavailable", "the ledger cannot write; look at the disk").retryable())
            .into_response()
    }
}

async fn metrics(State(operator): State<Operator>) -> Response {
    let text = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, text)], operator.metrics.render()).into_response()
}

/// `POST /api/v1/commands`: the body is a request as on the bus, `name` included; the answer is the whole reply.
async fn command(State(operator): State<Operator>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = send(&operator, &headers, None, &body).await;
    let status = StatusCode::from_u16(reply.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(reply)).into_response()
}

async fn send(operator: &Operator, headers: &HeaderMap, name: Option<&str>, body: &[u8]) -> Reply {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let envelope = Envelope {
        name,
        id: key,
        minted_id: Uuid::now_v7().to_string().parse().expect("a UUID is a command id"),
        transport: Transport::Rest,
        now: operator.ledger.now(),
    };
    operator.ledger.command(body, &envelope).await
}

/// A resource call as the command that it stands for; what is answered is the result alone.
pub async fn order(State(operator): State<Operator>, headers: HeaderMap, name: &str, params: Value) -> Response {
    let mut request = Map::from_iter([("params".to_owned(), params)]);
    match revision(&headers) {
        Ok(None) => {}
        Ok(Some(revision)) => drop(request.insert("if_match".to_owned(), json!(revision))),
        Err(refusal) => return Failure(refusal).into_response(),
    }
    let reply = send(&operator, &headers, Some(name), Value::Object(request).to_string().as_bytes()).await;
    match (reply.status, reply.error) {
        (Status::Succeeded, _) => {
            let created = name.ends_with(".create") && !reply.replayed;
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let result = reply.result.unwrap_or_default();
            let tag = result
                .pointer("/project/revision")
                .or_else(|| result.get("revision"))
                .map(|revision| format!("\"{revision}\""));
            let mut response = (status, Json(result)).into_response();
            if let Some(tag) = tag.and_then(|tag| tag.parse().ok()) {
                response.headers_mut().insert(header::ETAG, tag);
            }
            response
        }
        (Status::Accepted, _) => {
            let mut response = (StatusCode::ACCEPTED, Json(reply.result.unwrap_or_default())).into_response();
            let place = reply.job.and_then(|job| format!("/api/v1/jobs/{job}").parse().ok());
            if let Some(place) = place {
                response.headers_mut().insert(header::LOCATION, place);
            }
            response
        }
        (_, Some(wrong)) => problem(wrong),
        (_, None) => Failure(Refusal::new(500, "internal", "a reply without a result or an error")).into_response(),
    }
}

/// `If-Match: "3"`
fn revision(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let revision = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').parse();
    revision.map(Some).map_err(|_| Refusal::new(400, "invalid_params", format!("If-Match: not a revision: {text:?}")))
}

/// The body of a call: a JSON object of params.
type Params = Body<Map<String, Value>>;

async fn projects(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "project.list", json!({})).await
}

async fn create_project(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "project.create", Value::Object(params)).await
}

async fn project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.get", json!({"project": id})).await
}

async fn update_project(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(mut params): Params,
) -> Response {
    params.insert("project".to_owned(), json!(id));
    order(state, headers, "project.update", Value::Object(params)).await
}

async fn delete_project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.delete", json!({"project": id})).await
}

async fn activate_project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.activate", json!({"project": id})).await
}

async fn deactivate_project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.deactivate", json!({"project": id})).await
}

async fn scripts(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "script.list", json!({})).await
}

async fn put_script(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "script.put", Value::Object(params)).await
}

/// With its text.
async fn script(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let missing = || Refusal::not_found("script", &id);
    let all = operator.ledger.scripts().await?;
    let script = all.into_iter().find(|script| script.id.as_str() == id).ok_or_else(missing)?;
    let text = operator.ledger.script_text(script.id.clone(), script.revision).await?.ok_or_else(missing)?;
    Ok(Json(json!({"script": script, "text": text})))
}

async fn delete_script(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "script.delete", json!({"script": id})).await
}

async fn rules(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "rules.get", json!({})).await
}

async fn set_rules(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "rules.set", Value::Object(params)).await
}

async fn test_rules(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "rules.test", Value::Object(params)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DevicePage {
    #[serde(default)]
    after: String,
    #[serde(default)]
    limit: Option<u32>,
}

async fn devices(State(operator): State<Operator>, Asked(page): Asked<DevicePage>) -> Result<Json<Value>, Failure> {
    let devices = operator.ledger.devices(page.after, page.limit.unwrap_or(100).clamp(1, 1000)).await?;
    let next = devices.last().map(|device| device.mac);
    let shown: Vec<Value> = devices.iter().map(Device::shown).collect();
    Ok(Json(json!({"devices": shown, "next_after": next})))
}

/// A device is found by its MAC or by its serial.
async fn find(operator: &Operator, id: &str) -> Result<Device, Failure> {
    let found = match (id.parse::<Mac>(), id.parse::<Serial>()) {
        (Ok(mac), serial) => match (operator.ledger.device(mac).await?, serial) {
            (None, Ok(serial)) => operator.ledger.device_by_serial(serial).await?,
            (found, _) => found,
        },
        (Err(_), Ok(serial)) => operator.ledger.device_by_serial(serial).await?,
        (Err(_), Err(_)) => {
            return Err(Refusal::invalid("/device", format!("neither a MAC nor a serial: {id:?}")).into());
        }
    };
    found.ok_or_else(|| Refusal::not_found("device", id).into())
}

async fn device(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let device = find(&operator, &id).await?;
    let filter = SessionFilter { mac: Some(device.mac), limit: 20, ..SessionFilter::default() };
    let sessions: Vec<Value> = operator.ledger.sessions(filter).await?.iter().map(Session::shown).collect();
    let timeline = operator.ledger.timeline(device.mac).await?;
    Ok(Json(json!({"device": device.shown(), "sessions": sessions, "timeline": timeline})))
}

async fn authorize_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    Ok(order(state, headers, "device.authorize", json!({"device": device.mac})).await)
}

async fn abort_device(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    Ok(order(state, headers, "device.abort", json!({"device": device.mac})).await)
}

/// Also for a device that was never seen, by its MAC.
async fn assign_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(mut params): Params,
) -> Result<Response, Failure> {
    let mac = match id.parse::<Mac>() {
        Ok(mac) => mac,
        Err(_) => find(&state, &id).await?.mac,
    };
    params.insert("device".to_owned(), json!(mac));
    Ok(order(state, headers, "device.assign", Value::Object(params)).await)
}

async fn unassign_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    Ok(order(state, headers, "device.unassign", json!({"device": device.mac})).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionPage {
    mac: Option<Mac>,
    project: Option<String>,
    outcome: Option<String>,
    before: Option<String>,
    limit: Option<u32>,
}

async fn sessions(State(operator): State<Operator>, Asked(page): Asked<SessionPage>) -> Result<Json<Value>, Failure> {
    let filter = SessionFilter {
        mac: page.mac,
        project: page.project,
        outcome: page.outcome,
        before: page.before,
        limit: page.limit.unwrap_or(100).clamp(1, 1000),
    };
    let sessions = operator.ledger.sessions(filter).await?;
    let next = sessions.last().map(|session| session.id);
    let shown: Vec<Value> = sessions.iter().map(Session::shown).collect();
    Ok(Json(json!({"sessions": shown, "next_before": next})))
}

async fn session(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let parsed = id.parse().map_err(|wrong: String| Refusal::invalid("/session", wrong))?;
    let session = operator.ledger.session(parsed).await?.ok_or_else(|| Refusal::not_found("session", &id))?;
    let timeline = operator.ledger.timeline_of(&session).await?;
    Ok(Json(json!({"session": session.shown(), "timeline": timeline})))
}

/// What the scripts of a session have printed.
async fn output(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let id = id.parse().map_err(|wrong: String| Refusal::invalid("/session", wrong))?;
    let outputs = operator.ledger.script_outputs(id).await?;
    Ok(Json(json!({"session": id, "output": outputs})))
}
