//! Logins of browsers: a token is shown once and stands for a cookie that no script can read and no other site sends
//! along. They are held in memory: a restart of the station, or the end of the token, ends them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::core::image::Digest;
use crate::core::refusal::Refusal;
use crate::core::role::{Caller, Role};
use crate::http::auth::{Denial, Gate, Scheme, Secret, caller, host, lock};
use crate::http::error::Failure;
use crate::http::extract::Body;

pub const COOKIE: &str = "bootline_session";
/// A login that is not used for so long ends.
const IDLE: Duration = Duration::from_secs(12 * 3600);
/// Where there are more, the one that was idle longest ends.
const MOST: usize = 1000;

/// By the hash of what the cookie holds: the token, and when it was last used.
#[derive(Default)]
pub struct Logins(HashMap<Digest, (Digest, Instant)>);

impl Logins {
    fn begin(&mut self, login: &Secret, token: Digest, now: Instant) {
        self.0.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, (_, used))| *used).map(|(login, _)| *login);
            oldest.map(|login| self.0.remove(&login));
        }
        self.0.insert(login.sha256(), (token, now));
    }

    /// The hash of the token that stands behind it.
    pub fn find(&mut self, login: &Secret, now: Instant) -> Option<Digest> {
        let (token, used) = self.0.get_mut(&login.sha256()).filter(|(_, used)| now.duration_since(*used) < IDLE)?;
        *used = now;
        Some(*token)
    }

    fn end(&mut self, login: &Secret) {
        self.0.remove(&login.sha256());
    }
}

pub fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| Secret::new(value.to_owned()))
}

fn set_cookie(gate: &Gate, value: &str, seconds: u64) -> HeaderValue {
    let secure = if gate.0.access.scheme == Scheme::Https { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::try_from(text).expect("hex digits and words")
}

/// What a page shows once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As `bootline token create` has printed it.
    token: String,
}

/// Who the caller is to the station.
#[derive(Serialize, JsonSchema)]
pub struct Who {
    role: Role,
    /// Of the token; null for one who needed none.
    name: Option<String>,
}

fn shown(caller: &Caller) -> Json<Who> {
    Json(Who { role: caller.role, name: caller.token.clone() })
}

/// `POST /api/v1/session` with `{"token": ".."}`: the one route of the API that stands before the gate.
pub async fn sign_in(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Response {
    match begin(&gate, peer, &headers, Secret::new(login.token)).await {
        Ok(response) => response,
        Err(denial) => denial.into_response(),
    }
}

async fn begin(gate: &Gate, peer: SocketAddr, headers: &HeaderMap, secret: Secret) -> Result<Response, Denial> {
    host::check(&gate.0.access, peer.ip(), headers)?;
    let token = gate.known(peer.ip(), &secret).await?;
    let login = Secret::fresh()?;
    lock(&gate.0.logins).begin(&login, token.sha256, Instant::now());
    let caller = Caller { role: token.role, token: Some(token.name.to_string()) };
    gate.audit("session.begin", &caller, 201).await;
    let headers = [
        (header::SET_COOKIE, set_cookie(gate, login.text(), IDLE.as_secs())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::CREATED, headers, shown(&caller)).into_response())
}

/// `GET /api/v1/session`: who the caller is to the station.
pub async fn show() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], shown(&caller())).into_response()
}

/// `DELETE /api/v1/session`
pub async fn leave(State(gate): State<Gate>, headers: HeaderMap) -> Result<Response, Failure> {
    let login = cookie(&headers).ok_or_else(|| Refusal::new(404, "not_found", "this call is not part of a login"))?;
    lock(&gate.0.logins).end(&login);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, set_cookie(&gate, "", 0))]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_by_itself_and_by_word() {
        let (mut logins, start) = (Logins::default(), Instant::now());
        let (login, token) = (Secret::fresh().unwrap(), Digest::new([1; 32]));
        logins.begin(&login, token, start);
        assert_eq!(logins.find(&login, start + IDLE / 2), Some(token));
        assert_eq!(logins.find(&login, start + IDLE), Some(token), "it was used in between");
        assert_eq!(logins.find(&login, start + IDLE * 2), None);
        logins.begin(&login, token, start);
        logins.end(&login);
        assert_eq!(logins.find(&login, start), None);
        assert_eq!(logins.find(&Secret::fresh().unwrap(), start), None);
    }

    #[test]
    fn logins_are_bounded() {
        let (mut logins, start) = (Logins::default(), Instant::now());
        for n in 0..MOST as u64 + 50 {
            let login = Secret::new(n.to_string());
            logins.begin(&login, Digest::new([1; 32]), start + Duration::from_millis(n));
        }
        assert_eq!(logins.0.len(), MOST);
    }
}
