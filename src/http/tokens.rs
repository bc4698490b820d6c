//! `/api/v1/tokens`: made, listed, revoked. What a token is shown as, it is shown once.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::core::command::{Envelope, Problem, Transport};
use crate::core::refusal::Refusal;
use crate::core::role::{Caller, Role};
use crate::core::token::{TokenName, TokenShown};
use crate::http::auth::{Secret, caller};
use crate::http::error::problem;
use crate::http::extract::Body;
use crate::http::openapi::{Api, Call};
use crate::http::operator::{Operator, order};
use crate::ledger::Ledger;

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    api.at(
        "/tokens",
        [
            Call::get(list, "list_tokens", "All tokens, without what opens anything")
                .told(|told| told.gives_as::<Vec<TokenShown>>("200", "tokens", "All of them").refuses(&[403])),
            Call::post(create, "create_token", "Another token").told(|told| {
                told.takes::<Wanted>()
                    .gives::<Made>("201", "It is shown this once")
                    .refuses(&[400, 403, 409, 413, 415, 422])
            }),
        ],
    )
    .at(
        "/tokens/{name}",
        [Call::delete(revoke, "revoke_token", "It opens nothing any more; its name stays").told(|told| {
            told.of::<TokenName>().gives_as::<TokenShown>("200", "token", "As it is now").refuses(&[400, 403, 404, 409])
        })],
    )
}

/// A token that is to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// It is the actor in what its bearer asks for.
    name: TokenName,
    role: Role,
}

/// A token, and what its bearer shows.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts")]
struct Made {
    token: TokenShown,
    /// Keep it: the station has only its hash.
    secret: String,
}

/// `{"token": {..}, "secret": "bl_.."}`
pub async fn make(ledger: &Ledger, caller: &Caller, name: &TokenName, role: Role) -> Result<Value, Problem> {
    let secret = Secret::fresh().map_err(Problem::from)?;
    let params = json!({"name": name, "role": role, "sha256": secret.sha256()});
    let mut shown = run(ledger, caller, "token.create", params).await?;
    shown["secret"] = json!(secret.text());
    Ok(shown)
}

/// One command on tokens.
pub async fn run(ledger: &Ledger, caller: &Caller, name: &str, params: Value) -> Result<Value, Problem> {
    let envelope = Envelope {
        name: Some(name),
        id: None,
        minted_id: Uuid::now_v7().to_string().parse().expect("a UUID is a command id"),
        transport: Transport::Rest,
        now: ledger.now(),
    };
    let body = json!({"params": params}).to_string();
    let reply = ledger.command_of(caller, body.as_bytes(), &envelope).await;
    match (reply.result, reply.error) {
        (Some(result), None) => Ok(result),
        (_, Some(problem)) => Err(problem),
        (None, None) => Err(Refusal::new(500, "internal", "a reply without a result or an error").into()),
    }
}

pub async fn create(State(operator): State<Operator>, Body(wanted): Body<Wanted>) -> Response {
    match make(&operator.ledger, &caller(), &wanted.name, wanted.role).await {
        Ok(shown) => {
            let unstored = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (StatusCode::CREATED, unstored, Json(shown)).into_response()
        }
        Err(wrong) => problem(wrong),
    }
}

pub async fn list(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "token.list", json!({})).await
}

pub async fn revoke(state: State<Operator>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    order(state, headers, "token.revoke", json!({"token": name})).await
}
