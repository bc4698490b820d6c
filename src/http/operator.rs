//! The operator side: what people and their tools call. Every unsafe call is a command, as on the bus.

use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::core::command::{
    DeviceAssign, Envelope, ProjectCreate, ProjectUpdate, Reply, RulesSet, RulesTest, ScriptPut, Status, Transport,
};
use crate::core::device::{Mac, Serial};
use crate::core::floor::Device;
use crate::core::plan::SessionId;
use crate::core::project::{Project, ProjectId};
use crate::core::refusal::Refusal;
use crate::core::rule::Rules;
use crate::core::script::{Script, ScriptId};
use crate::core::shown::{DeviceShown, RulesTested, SessionShown, StationShown};
use crate::firmware::Firmwares;
use crate::http::error::{Failure, problem};
use crate::http::extract::{Body, Limit, bytes, json_kind};
use crate::http::openapi::{Api, Call, Told};
use crate::http::{auth, count, docs, error, events, firmware, history, images, stats, uploads};
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

/// Every route of `/api/v1`, each with its description.
pub fn api() -> Api<Operator> {
    let api = Api::new()
        .at(
            "/commands",
            [Call::post(command, "send_command", "A request as on the bus; the answer is the whole reply").told(
                |told| {
                    told.header(KEY, KEY_SAYS, key())
                        .takes::<AnyRequest>()
                        .gives::<Reply>("200", "It is done")
                        .gives::<Reply>("202", "It was begun")
                },
            )],
        )
        .at(
            "/station",
            [Call::get(station, "get_station", "The station at a glance")
                .told(|told| told.gives::<StationShown>("200", "It"))],
        )
        .at(
            "/alarms",
            [Call::get(alarms, "list_alarms", "What somebody must act on")
                .told(|told| told.gives_as::<Vec<Alarm>>("200", "alarms", "Those that stand"))],
        )
        .at(
            "/stats",
            [Call::get(stats::stats, "get_stats", "Yield, throughput, durations and failures").told(|told| {
                told.query::<stats::StatsQuery>().gives::<stats::StatsShown>("200", "The sums").refuses(&[400])
            })],
        );
    history_routes(shelf_routes(project_routes(api)))
}

fn project_routes(api: Api<Operator>) -> Api<Operator> {
    let one = |told: Told| {
        told.of::<ProjectId>().gives_as::<Project>("200", "project", "As it is now").refuses(&[400, 404, 412])
    };
    api.at(
        "/projects",
        [
            Call::get(projects, "list_projects", "All projects")
                .told(|told| told.gives_as::<Vec<Project>>("200", "projects", "All of them")),
            Call::post(create_project, "create_project", "Another project").told(|told| {
                told.header(KEY, KEY_SAYS, key())
                    .takes::<ProjectCreate>()
                    .gives_as::<Project>("201", "project", "It is there")
                    .gives_as::<Project>("200", "project", "The same request was carried out before")
                    .refuses(&[400, 404, 409, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/projects/{id}",
        [
            Call::get(project, "get_project", "One project").told(one),
            Call::patch(update_project, "update_project", "What is named is changed").told(|told| {
                one(told)
                    .guarded()
                    .takes::<ProjectUpdate>()
                    .without("project")
                    .refuses(&[400, 404, 409, 412, 413, 415, 422])
            }),
            Call::delete(delete_project, "delete_project", "It goes; its sessions stay")
                .told(|told| one(told).guarded().refuses(&[400, 404, 409, 412])),
        ],
    )
    .at(
        "/projects/{id}/activate",
        [Call::post(activate_project, "activate_project", "Devices get it").told(|told| one(told).guarded())],
    )
    .at(
        "/projects/{id}/deactivate",
        [Call::post(deactivate_project, "deactivate_project", "No device gets it").told(|told| one(told).guarded())],
    )
    .at(
        "/rules",
        [
            Call::get(rules, "get_rules", "Which devices get which project")
                .told(|told| told.gives::<Rules>("200", "In the order in which they are asked")),
            Call::put(set_rules, "set_rules", "All rules anew").told(|told| {
                told.guarded()
                    .takes::<RulesSet>()
                    .gives::<Rules>("200", "As they are now")
                    .refuses(&[400, 404, 412, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/rules/test",
        [Call::post(test_rules, "test_rules", "Which project would this device get, and why").told(|told| {
            told.takes::<RulesTest>().gives::<RulesTested>("200", "The verdict").refuses(&[400, 404, 413, 415])
        })],
    )
    .at(
        "/scripts",
        [
            Call::get(scripts, "list_scripts", "Scripts of the site")
                .told(|told| told.gives_as::<Vec<Script>>("200", "scripts", "All of them, without their texts")),
            Call::post(put_script, "put_script", "A script, or another text of one").told(|told| {
                told.header(KEY, KEY_SAYS, key())
                    .takes::<ScriptPut>()
                    .gives_as::<Script>("200", "script", "It is there")
                    .refuses(&[400, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/scripts/{id}",
        [
            Call::get(script, "get_script", "One script, with its text")
                .told(|told| told.of::<ScriptId>().gives::<ScriptWithText>("200", "It").refuses(&[404])),
            Call::delete(delete_script, "delete_script", "It goes").told(|told| {
                told.of::<ScriptId>().gives_as::<Script>("200", "script", "What was there").refuses(&[400, 404, 409])
            }),
        ],
    )
}

fn shelf_routes(api: Api<Operator>) -> Api<Operator> {
    let api = images::routes(api);
    let api = firmware::routes(api);
    uploads::routes(api)
}

fn history_routes(api: Api<Operator>) -> Api<Operator> {
    let done = |told: Told| told.gives::<Value>("200", "It is done").refuses(&[400, 404, 409]);
    api.at(
        "/devices",
        [Call::get(history::devices, "list_devices", "Devices that were seen, in the order of their MAC").told(
            |told| told.query::<history::DeviceQuery>().gives::<history::DevicePage>("200", "A page").refuses(&[400]),
        )],
    )
    .at(
        "/devices/{id}",
        [Call::get(device, "get_device", "One device by its MAC or serial, its newest sessions and boots")
            .told(|told| told.gives::<DeviceWithHistory>("200", "It").refuses(&[400, 404]))],
    )
    .at("/devices/{id}/authorize", [Call::post(authorize_device, "authorize_device", "One more attempt").told(done)])
    .at("/devices/{id}/abort", [Call::post(abort_device, "abort_device", "Its session ends").told(done)])
    .at(
        "/devices/{id}/assign",
        [Call::post(assign_device, "assign_device", "It gets this project, whatever the rules say").told(|told| {
            told.takes::<DeviceAssign>()
                .without("device")
                .gives::<Value>("200", "It is done")
                .refuses(&[400, 404, 413, 415, 422])
        })],
    )
    .at("/devices/{id}/unassign", [Call::post(unassign_device, "unassign_device", "The rules decide again").told(done)])
    .at(
        "/sessions",
        [Call::get(history::sessions, "list_sessions", "Sessions, the newest first").told(|told| {
            told.query::<history::SessionQuery<Limit>>().gives::<history::SessionPage>("200", "A page").refuses(&[400])
        })],
    )
    .at(
        "/sessions.csv",
        [Call::get(history::csv, "export_sessions", "Sessions as CSV, the newest first").told(|told| {
            told.query::<history::SessionQuery<history::Most>>()
                .gives_text("200", "text/csv", "One row a session")
                .refuses(&[400])
        })],
    )
    .at(
        "/sessions/{id}",
        [Call::get(history::session, "get_session", "One session, and the boot that led to it").told(|told| {
            told.of::<SessionId>().gives_as::<history::ListedSession>("200", "session", "It").refuses(&[400, 404])
        })],
    )
    .at(
        "/sessions/{id}/output",
        [Call::get(history::output, "get_session_output", "What its scripts have printed").told(|told| {
            told.of::<SessionId>().gives_as::<Vec<Value>>("200", "output", "A script each").refuses(&[400, 404])
        })],
    )
    .at(
        "/events",
        [Call::get(events::page, "list_events", "The journal, oldest first")
            .told(|told| told.query::<events::Page>().gives::<events::EventPage>("200", "A page").refuses(&[400]))],
    )
    .at(
        "/events/stream",
        [Call::get(
            events::stream,
            "stream_events",
            "A WebSocket that sends CloudEvents: what was, and then what comes",
        )
        .told(|told| {
            told.query::<events::Listening>().gives_nothing("101", "From here on, frames of text").refuses(&[400, 426])
        })],
    )
}

/// What the handlers and the types say, as `schemas/openapi.json` has it.
pub fn openapi() -> Value {
    api().document()
}

pub fn router(operator: Operator) -> Router {
    let document = Bytes::from(serde_json::to_vec(&openapi()).expect("a document of values serialises"));
    let told = move || {
        let json = HeaderValue::from_static("application/json");
        let response = ([(header::CONTENT_TYPE, json)], document.clone()).into_response();
        std::future::ready(response)
    };
    let api = api().router().route("/openapi.json", get(told.clone())).fallback(missing);
    let metrics_of = operator.metrics.clone();
    let router = Router::new()
        .nest("/api/v1", api)
        .route("/openapi.json", get(told))
        .route("/metrics", get(metrics))
        .merge(docs::router())
        .layer(middleware::from_fn(auth::guard))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(ready))
        .fallback(missing)
        .layer(middleware::from_fn(error::negotiate))
        .layer(middleware::map_response(error::tidy))
        .with_state(operator);
    count::counted(router, metrics_of, "operators")
}

const KEY: &str = "Idempotency-Key";
const KEY_SAYS: &str =
    "Chosen by you, once for each intent: the same key again gets the stored answer and does nothing";

fn key() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{8,64}$"})
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
async fn command(State(operator): State<Operator>, headers: HeaderMap, request: Request) -> Result<Response, Failure> {
    json_kind(&headers)?;
    let body = bytes(request, &()).await?;
    let reply = send(&operator, &headers, None, &body).await;
    let status = StatusCode::from_u16(reply.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok((status, Json(reply)).into_response())
}

/// A request as on the bus.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts; `Command::parse` reads it")]
struct AnyRequest {
    /// Of the command: `project.create`.
    name: String,
    /// As the command has them.
    params: Option<Map<String, Value>>,
}

#[derive(Serialize, JsonSchema)]
struct Alarm {
    code: String,
    /// What is wrong, and what to do.
    detail: String,
}

/// A script with its text.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts")]
struct ScriptWithText {
    script: Script,
    text: String,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts")]
struct DeviceWithHistory {
    device: DeviceShown,
    sessions: Vec<SessionShown>,
    /// What it did on its way up, the newest boots.
    timeline: Vec<Value>,
}

async fn station(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "station.info", json!({})).await
}

async fn alarms(State(operator): State<Operator>) -> Result<Json<Value>, Failure> {
    let alarms = operator.ledger.alarms().await?;
    let alarms: Vec<Alarm> = alarms.into_iter().map(|(code, detail)| Alarm { code, detail }).collect();
    Ok(Json(json!({"alarms": alarms})))
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
    let sessions = operator.ledger.sessions(filter).await?;
    let sessions: Vec<Value> = sessions.iter().map(|listed| listed.session.shown()).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Made anew with `BLESS=1`.
    #[test]
    fn the_committed_document_is_what_the_routes_say() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/openapi.json");
        let said = format!("{}\n", serde_json::to_string_pretty(&openapi()).unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &said).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == said, "schemas/openapi.json is old; BLESS=1 makes it anew");
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_names_only_shapes_that_are_there() {
        let document = openapi();
        let mut names = std::collections::BTreeSet::new();
        for (path, calls) in document["paths"].as_object().unwrap() {
            for (method, call) in calls.as_object().unwrap().iter().filter(|(method, _)| *method != "servers") {
                let name = call["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{method} {path}: {name} is there twice");
            }
        }
        assert!(names.len() > 60, "{names:?}");
        let text = document.to_string();
        for part in text.split("\"$ref\":\"").skip(1) {
            let place = part.split('"').next().unwrap().trim_start_matches('#');
            assert!(document.pointer(place).is_some(), "{place} is not there");
        }
    }
}
