//! The operator side: what people and their tools call. Every unsafe call is a command, as on the bus.

use axum::body::Bytes;
use axum::extract::{FromRef, OriginalUri, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::core::command::{Envelope, Reply, Status, Transport};
use crate::core::device::{Mac, Serial};
use crate::core::floor::Device;
use crate::core::refusal::Refusal;
use crate::core::script::Script;
use crate::core::shown::{DeviceShown, SessionShown};
use crate::firmware::Firmwares;
use crate::http::auth::{self, Gate};
use crate::http::error::{Failure, problem};
use crate::http::extract::{Body, Wishes, bytes, json_kind};
use crate::http::{count, docs, error, legacy, pages, routes};
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
    pub gate: Gate,
}

impl FromRef<Operator> for Gate {
    fn from_ref(operator: &Operator) -> Self {
        operator.gate.clone()
    }
}

/// All of `/api/v1` comes from `routes`, which describes it; here stand only the document itself and the login, which
/// comes before the gate.
pub fn router(operator: Operator) -> Router {
    let document = Bytes::from(serde_json::to_vec(&routes::openapi()).expect("a document of values serialises"));
    let told = move || {
        let json = HeaderValue::from_static("application/json");
        let response = ([(header::CONTENT_TYPE, json)], document.clone()).into_response();
        std::future::ready(response)
    };
    let gate = operator.gate.clone();
    let api = routes::api().router().route("/openapi.json", get(told.clone())).fallback(missing);
    let metrics_of = operator.metrics.clone();
    let guarded = Router::new()
        .nest("/api/v1", api)
        .route("/openapi.json", get(told))
        .route("/metrics", get(metrics))
        .merge(docs::router())
        .layer(middleware::from_fn_with_state(gate.clone(), auth::guard));
    let router = guarded
        .route("/api/v1/session", post(auth::sign_in))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(ready))
        .fallback(missing)
        .layer(middleware::from_fn(error::negotiate))
        .layer(middleware::map_response(error::tidy))
        // The predecessor's answers have shapes of their own.
        .merge(legacy::front(gate.clone()))
        .merge(legacy::router(gate))
        .merge(pages::router())
        .layer(middleware::map_response(auth::headers))
        .with_state(operator);
    count::counted(router, metrics_of, "operators")
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
    ([(header::CONTENT_TYPE, text)], operator.metrics.render().await).into_response()
}

/// `POST /api/v1/commands`: the body is a request as on the bus, `name` included; the answer is the whole reply.
pub async fn command(
    State(operator): State<Operator>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    json_kind(&headers)?;
    let body = bytes(request, &()).await?;
    let reply = send(&operator, &headers, None, &body).await;
    let status = StatusCode::from_u16(reply.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok((status, Json(reply)).into_response())
}

/// A request as on the bus.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts; `Command::parse` reads it")]
pub struct AnyRequest {
    /// Of the command: `project.create`.
    name: String,
    /// As the command has them.
    params: Option<Map<String, Value>>,
}

#[derive(Serialize, JsonSchema)]
pub struct Alarm {
    code: String,
    /// What is wrong, and what to do.
    detail: String,
}

/// A script with its text.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct ScriptWithText {
    script: Script,
    text: String,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts")]
pub struct DeviceWithHistory {
    device: DeviceShown,
    sessions: Vec<SessionShown>,
    /// What it did on its way up, the newest boots.
    timeline: Vec<Value>,
}

pub async fn station(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "station.info", json!({})).await
}

pub async fn alarms(State(operator): State<Operator>) -> Result<Json<Value>, Failure> {
    let alarms = operator.ledger.alarms().await?;
    let alarms: Vec<Alarm> = alarms.into_iter().map(|(code, detail)| Alarm { code, detail }).collect();
    Ok(Json(json!({"alarms": alarms})))
}

pub async fn send(operator: &Operator, headers: &HeaderMap, name: Option<&str>, body: &[u8]) -> Reply {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let envelope = Envelope {
        name,
        id: key,
        minted_id: Uuid::now_v7().to_string().parse().expect("a UUID is a command id"),
        transport: Transport::Rest,
        now: operator.ledger.now(),
    };
    operator.ledger.command_of(&auth::caller(), body, &envelope).await
}

/// A resource call as the command that it stands for; what is answered is the result alone.
pub async fn order(State(operator): State<Operator>, headers: HeaderMap, name: &str, params: Value) -> Response {
    // Before anything is read: who may not ask is told nothing else.
    if let Err(refusal) = auth::caller().may(name) {
        return Failure(refusal).into_response();
    }
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

pub async fn projects(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "project.list", json!({})).await
}

pub async fn create_project(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "project.create", Value::Object(params)).await
}

pub async fn project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.get", json!({"project": id})).await
}

pub async fn update_project(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(mut params): Params,
) -> Response {
    params.insert("project".to_owned(), json!(id));
    order(state, headers, "project.update", Value::Object(params)).await
}

pub async fn delete_project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.delete", json!({"project": id})).await
}

pub async fn activate_project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.activate", json!({"project": id})).await
}

pub async fn deactivate_project(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "project.deactivate", json!({"project": id})).await
}

pub async fn scripts(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "script.list", json!({})).await
}

pub async fn put_script(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "script.put", Value::Object(params)).await
}

/// With its text.
pub async fn script(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let missing = || Refusal::not_found("script", &id);
    let all = operator.ledger.scripts().await?;
    let script = all.into_iter().find(|script| script.id.as_str() == id).ok_or_else(missing)?;
    let text = operator.ledger.script_text(script.id.clone(), script.revision).await?.ok_or_else(missing)?;
    Ok(Json(json!({"script": script, "text": text})))
}

pub async fn delete_script(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "script.delete", json!({"script": id})).await
}

pub async fn rules(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "rules.get", json!({})).await
}

pub async fn set_rules(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "rules.set", Value::Object(params)).await
}

pub async fn test_rules(state: State<Operator>, headers: HeaderMap, Body(params): Params) -> Response {
    order(state, headers, "rules.test", Value::Object(params)).await
}

/// A device is found by its MAC or by its serial.
pub async fn find(operator: &Operator, id: &str) -> Result<Device, Failure> {
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

pub async fn device(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let device = find(&operator, &id).await?;
    let filter = SessionFilter { mac: Some(device.mac), limit: 20, ..SessionFilter::default() };
    let sessions = operator.ledger.sessions(filter).await?;
    let sessions: Vec<Value> = sessions.iter().map(|listed| listed.session.shown()).collect();
    let timeline = operator.ledger.timeline(device.mac).await?;
    Ok(Json(json!({"device": device.shown(), "sessions": sessions, "timeline": timeline})))
}

pub async fn authorize_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    Ok(order(state, headers, "device.authorize", json!({"device": device.mac})).await)
}

pub async fn abort_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    Ok(order(state, headers, "device.abort", json!({"device": device.mac})).await)
}

/// `{"seconds": 15}`, or nothing at all.
pub async fn identify_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Wishes(mut params): Wishes,
) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    params.insert("device".to_owned(), json!(device.mac));
    Ok(order(state, headers, "device.identify", Value::Object(params)).await)
}

/// Also for a device that was never seen, by its MAC.
pub async fn assign_device(
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

pub async fn unassign_device(
    state: State<Operator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let device = find(&state, &id).await?;
    Ok(order(state, headers, "device.unassign", json!({"device": device.mac})).await)
}
