//! Who may manage: whoever shows a token, and by default callers on loopback; with an honest Host and Origin, and each
//! as far as his role goes. Devices never come through here.

mod cidr;
mod failures;
mod host;
mod login;
mod needs;
mod secret;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::core::command::{Actor, Transport};
use crate::core::observation::{Deed, Input, Observation};
use crate::core::refusal::Refusal;
use crate::core::role::{Caller, Role};
use crate::core::time::Timestamp;
use crate::core::token::{AccessToken, TokenName};
use crate::http::auth::failures::Failures;
use crate::http::auth::login::Logins;
use crate::http::error::Failure;
use crate::ledger::Ledger;

pub use crate::http::auth::cidr::Cidr;
pub use crate::http::auth::login::{COOKIE, Login, Who, leave, show, sign_in};
pub use crate::http::auth::secret::Secret;

/// How often the times at which tokens were used are written down.
const WRITE_DOWN: Duration = Duration::from_secs(60);

/// What the configuration says of those who call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Callers on this machine need a token too.
    pub loopback: Loopback,
    /// Names by which this station is called, besides its addresses.
    pub hosts: Vec<String>,
    /// Where the operator side listens.
    pub listen: IpAddr,
    pub scheme: Scheme,
    pub legacy: Legacy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    Open,
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who may call the predecessor's routes without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// These, and callers on loopback where those need none.
    From(Vec<Cidr>),
    /// Everyone but the network of the devices: as the predecessor's configuration has it.
    AllBut { devices: Cidr, server: IpAddr },
}

/// A request that came by the socket in the data folder: whoever can open that owns the station.
#[derive(Clone, Copy, Debug)]
pub struct Local;

tokio::task_local! {
    /// Set around everything behind a gate.
    static CALLER: Caller;
}

/// Who asks. Outside of a gate: somebody who may read.
pub fn caller() -> Caller {
    CALLER.try_with(Clone::clone).unwrap_or_else(|_| Caller::nameless(Role::Viewer))
}

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    access: Access,
    failures: Mutex<Failures>,
    logins: Mutex<Logins>,
    used: Mutex<BTreeMap<TokenName, Timestamp>>,
}

impl Gate {
    pub fn new(ledger: Ledger, access: Access) -> Self {
        Self(Arc::new(Inner {
            ledger,
            access,
            failures: Mutex::default(),
            logins: Mutex::default(),
            used: Mutex::default(),
        }))
    }

    /// Writes down when tokens were used, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut minutes = tokio::time::interval(WRITE_DOWN);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = minutes.tick() => false,
            };
            let used = std::mem::take(&mut *lock(&self.0.used));
            if !used.is_empty() {
                let told = self.0.ledger.submit(Input::Observed(Observation::TokensUsed(used.into_iter().collect())));
                if let Err(error) = told.await {
                    tracing::debug!(%error, "when tokens were used goes unrecorded");
                }
            }
            if stopping {
                return;
            }
        }
    }

    async fn admit(&self, peer: IpAddr, request: &Parts) -> Result<Caller, Denial> {
        if request.extensions.get::<Local>().is_some() {
            return Ok(Caller::nameless(Role::Admin));
        }
        host::check(&self.0.access, peer, &request.headers)?;
        let caller = match self.identify(peer, &request.headers).await? {
            Some(token) => Caller { role: token.role, token: Some(token.name.to_string()) },
            None if self.0.access.loopback == Loopback::Open && is_loopback(peer) => Caller::nameless(Role::Admin),
            None => return Err(Denial::from(Refusal::new(401, "token_needed", NO_TOKEN))),
        };
        let (least, deed) = needs::of(&request.method, request.uri.path());
        caller.needs(least, &deed)?;
        Ok(caller)
    }

    /// The predecessor's routes: open to some, and to the others like everything else.
    async fn admit_legacy(&self, peer: IpAddr, request: &Parts) -> Result<Caller, Denial> {
        let open = match &self.0.access.legacy {
            Legacy::From(networks) => networks.iter().any(|network| network.contains(peer)),
            Legacy::AllBut { devices, server } => {
                !devices.contains(peer) || peer.to_canonical() == *server || is_loopback(peer)
            }
        };
        if !open {
            let caller = self.admit(peer, request).await?;
            // Its readers only read; all else of it makes or unmakes something.
            let least = match needs::audited(&request.method, request.uri.path()) {
                // An upload is no command, so nobody asks behind this; it is for admins as in `/api/v1`.
                Some(_) => Role::Admin,
                None if is_safe(&request.method) => Role::Viewer,
                None => Role::Operator,
            };
            caller.needs(least, request.uri.path())?;
            return Ok(caller);
        }
        // Integrations call by any name; a browser, which says where its page is from, does not.
        if request.headers.contains_key(header::ORIGIN) {
            host::check(&self.0.access, peer, &request.headers)?;
        }
        Ok(Caller::nameless(Role::Admin))
    }

    /// The token that is shown. A wrong one is told, and counted against the address.
    async fn identify(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<AccessToken>, Denial> {
        if let Some(secret) = shown(headers) {
            return self.known(peer, &secret).await.map(Some);
        }
        let Some(login) = login::cookie(headers) else { return Ok(None) };
        let Some(token) = lock(&self.0.logins).find(&login, Instant::now()) else { return Ok(None) };
        let token = self.0.ledger.token(token).await.map_err(Refusal::from)?;
        Ok(token.inspect(|token| self.note(token)))
    }

    async fn known(&self, peer: IpAddr, secret: &Secret) -> Result<AccessToken, Denial> {
        if let Some(wait) = lock(&self.0.failures).closed(peer, Instant::now()) {
            let detail = format!("too many wrong tokens from {peer}; try again in {} s", wait.as_secs() + 1);
            let refusal = Refusal::new(429, "too_many_failures", detail).retryable();
            return Err(Denial { refusal, retry_after: Some(wait) });
        }
        match self.0.ledger.token(secret.sha256()).await.map_err(Refusal::from)? {
            Some(token) => {
                self.note(&token);
                Ok(token)
            }
            None => {
                lock(&self.0.failures).count(peer, Instant::now());
                tracing::warn!(%peer, "a token that is not valid was shown");
                Err(Denial::from(Refusal::new(401, "bad_token", "the token is not valid, or was revoked")))
            }
        }
    }

    fn note(&self, token: &AccessToken) {
        lock(&self.0.used).insert(token.name.clone(), self.0.ledger.now());
    }

    /// What is no command leaves its trace in the journal here.
    async fn audit(&self, name: &str, caller: &Caller, code: u16) {
        let deed = Deed {
            id: Uuid::now_v7().to_string().parse().expect("a UUID is a command id"),
            name: name.to_owned(),
            actor: Actor::anonymous(Transport::Rest).proven(caller, Transport::Rest),
            transport: Transport::Rest,
            code,
        };
        if let Err(error) = self.0.ledger.submit(Input::Observed(Observation::Done(deed))).await {
            tracing::error!(%error, name, "who did this goes unrecorded");
        }
    }

    async fn pass(&self, caller: Caller, request: Request, next: Next) -> Response {
        let deed = needs::audited(request.method(), request.uri().path());
        let response = CALLER.scope(caller.clone(), next.run(request)).await;
        if let Some(name) = deed {
            self.audit(name, &caller, response.status().as_u16()).await;
        }
        response
    }
}

const NO_TOKEN: &str = "show a token: Authorization: Bearer TOKEN (bootline token create makes one)";

/// Around everything that manages.
pub async fn guard(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    match gate.admit(peer.ip(), &parts).await {
        Ok(caller) => gate.pass(caller, Request::from_parts(parts, body), next).await,
        Err(denial) => denial.into_response(),
    }
}

/// Around the predecessor's routes, whose errors have another form.
pub async fn guard_legacy(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    match gate.admit_legacy(peer.ip(), &parts).await {
        Ok(caller) => gate.pass(caller, Request::from_parts(parts, body), next).await,
        Err(denial) => denial.in_form_of_predecessor(),
    }
}

/// On every answer of the operator side that does not say otherwise itself.
pub async fn headers(mut response: Response) -> Response {
    const HEADERS: [(header::HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
             frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Why somebody is not let in.
struct Denial {
    refusal: Refusal,
    retry_after: Option<Duration>,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, retry_after: None }
    }
}

impl Denial {
    fn in_form_of_predecessor(self) -> Response {
        let status = self.refusal.status;
        let told = axum::Json(serde_json::json!({"detail": self.refusal.detail}));
        let mut response = self.into_response();
        let (parts, body) = told.into_response().into_parts();
        response.headers_mut().extend(parts.headers);
        *response.body_mut() = body;
        debug_assert_eq!(response.status().as_u16(), status);
        response
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let unknown = self.refusal.status == 401;
        let mut response = Failure(self.refusal).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        if unknown {
            let realm = HeaderValue::from_static("Bearer realm=\"bootline\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

/// A browser cannot set `Authorization` on a WebSocket, but may offer protocols: `bearer.TOKEN` beside the real one.
fn shown(headers: &HeaderMap) -> Option<Secret> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let by_header = headers.get(header::AUTHORIZATION).map(|_| {
        let value = text(header::AUTHORIZATION).unwrap_or_default();
        value.strip_prefix("Bearer ").unwrap_or_default().trim()
    });
    let offered =
        || text(header::SEC_WEBSOCKET_PROTOCOL)?.split(',').find_map(|one| one.trim().strip_prefix("bearer."));
    by_header.or_else(offered).map(|text| Secret::new(text.to_owned()))
}

fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// What these hold is whole at every moment, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
