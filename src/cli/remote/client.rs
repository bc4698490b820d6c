//! A thin client of the operator API: one request a connection, problems as errors.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use crate::cli::exit;
use crate::cli::remote::Station;
use crate::trust;

const CONNECT: Duration = Duration::from_secs(10);

pub type Outgoing = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why nothing came of it.
#[derive(Debug)]
pub enum Trouble {
    /// Something of this machine: a file, a URL.
    Here(String),
    Usage(String),
    /// The station does not answer.
    Away(String),
    /// It said no.
    Refused {
        status: u16,
        code: String,
        detail: String,
    },
    /// There is something to look at, and it is told already.
    Found,
}

impl Trouble {
    pub const fn code(&self) -> u8 {
        match self {
            Self::Here(_) => exit::IO,
            Self::Usage(_) => exit::USAGE,
            Self::Refused { status: 401 | 403, .. } => exit::NO_PERMISSION,
            Self::Away(_) | Self::Refused { status: 502..=504, .. } => exit::UNAVAILABLE,
            Self::Refused { status: 500.., .. } => exit::SOFTWARE,
            Self::Refused { .. } | Self::Found => exit::FOUND,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(what) | Self::Usage(what) | Self::Away(what) => f.write_str(what),
            Self::Refused { status, code, detail } => write!(f, "{detail} ({status} {code})"),
            Self::Found => f.write_str("there is something to look at"),
        }
    }
}

pub struct Client {
    url: Url,
    token: Option<String>,
    ca: Option<std::path::PathBuf>,
    /// Answers are printed as they are.
    pub json: bool,
}

impl Client {
    pub fn of(station: &Station) -> Result<Self, Trouble> {
        let url =
            Url::parse(&station.url).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let url = url.ok_or_else(|| Trouble::Usage(format!("not a URL of a station: {:?}", station.url)))?;
        let token =
            match &station.token_file {
                Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                    Trouble::Here(format!("cannot read the token from {}: {error}", path.display()))
                })?),
                None => std::env::var("BOOTLINE_TOKEN").ok(),
            };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(Self { url, token, ca: station.ca.clone(), json: station.json })
    }

    pub async fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.json_of(self.call(Method::GET, path, &[], empty()).await?).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, Trouble> {
        self.json_of(self.call(Method::DELETE, path, &[], empty()).await?).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let body = full(Bytes::from(body.to_string()));
        self.json_of(self.call(Method::POST, path, &[(header::CONTENT_TYPE, "application/json")], body).await?).await
    }

    pub async fn upload(&self, path: &str, body: Outgoing) -> Result<Value, Trouble> {
        let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
        self.json_of(self.call(Method::POST, path, &kind, body).await?).await
    }

    /// A body to be read as it comes; a problem is an error already.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>, Trouble> {
        let response = self.call(Method::GET, path, &[], empty()).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Whether it can do its work, as what watches it asks.
    pub async fn ready(&self) -> Result<Value, Trouble> {
        let asked = async { self.json_of(self.call_at(Method::GET, "/readyz", &[], empty()).await?).await };
        let late = || Trouble::Away(format!("the station at {} does not answer in time", self.url));
        timeout(CONNECT, asked).await.map_err(|_| late())?
    }

    async fn json_of(&self, response: Response<Incoming>) -> Result<Value, Trouble> {
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let body = response.into_body().collect().await.map_err(away)?.to_bytes();
        serde_json::from_slice(&body)
            .map_err(|_| Trouble::Away("the answer is not JSON; is this a station?".to_owned()))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Outgoing,
    ) -> Result<Response<Incoming>, Trouble> {
        self.call_at(method, &format!("/api/v1{path}"), headers, body).await
    }

    async fn call_at(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Outgoing,
    ) -> Result<Response<Incoming>, Trouble> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let port = self.url.port_or_known_default().unwrap_or(80);
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.path().trim_end_matches('/')))
            .header(header::HOST, self.url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
            .header(header::USER_AGENT, concat!("bootline/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).map_err(|error| Trouble::Usage(format!("cannot ask for that: {error}")))?;
        let connected = timeout(CONNECT, TcpStream::connect((bare.as_str(), port))).await;
        let at = |why: String| Trouble::Away(format!("no station answers at {}: {why}", self.url));
        let stream =
            connected.map_err(|_| at("no connection in time".to_owned()))?.map_err(|error| at(error.to_string()))?;
        if self.url.scheme() == "https" {
            let name = ServerName::try_from(bare).map_err(|error| at(error.to_string()))?;
            let stream = trust::connector(self.ca.as_deref())
                .map_err(Trouble::Here)?
                .connect(name, stream)
                .await
                .map_err(|error| at(error.to_string()))?;
            exchange(stream, request).await
        } else {
            exchange(stream, request).await
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Outgoing>) -> Result<Response<Incoming>, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
    // It ends with the response, or when that is dropped; what went wrong is told by the request.
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(request).await.map_err(away)
}

async fn refusal(response: Response<Incoming>) -> Trouble {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    Trouble::Refused {
        status,
        code: text("code").unwrap_or_else(|| "unknown".to_owned()),
        detail: text("detail").unwrap_or_else(|| "the station said no".to_owned()),
    }
}

pub fn away(error: impl fmt::Display) -> Trouble {
    Trouble::Away(format!("the connection to the station broke off: {error}"))
}

fn empty() -> Outgoing {
    full(Bytes::new())
}

fn full(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
