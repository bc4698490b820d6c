//! `/api/v1/tokens`: made, listed, revoked. What a token is shown as, it is shown once.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::core::command::{Envelope, Problem, Transport};
use crate::core::refusal::Refusal;
use crate::core::role::{Caller, Role};
use crate::core::token::TokenName;
use crate::http::auth::{Secret, caller};
use crate::http::error::problem;
use crate::http::extract::Body;
use crate::http::operator::{Operator, order};
use crate::ledger::Ledger;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    name: TokenName,
    role: Role,
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
