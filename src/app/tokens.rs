//! Tokens from the command line. Whoever can open the data folder may make them. A running agent is asked by the socket
//! that it has there, because it alone holds the pen; where none runs, the folder is locked and the book opened here.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::app::lock::Lock;
use crate::config::Config;
use crate::core::role::{Caller, Role};
use crate::core::token::TokenName;
use crate::http::local::SOCKET;
use crate::http::tokens;
use crate::ledger::{Clock, Ledger};

/// What is to be done with tokens.
#[derive(Clone, Debug)]
pub enum Errand {
    Create { name: TokenName, role: Role },
    List,
    Revoke { name: TokenName },
}

/// By whom it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Agent,
    Folder,
}

/// What the station answers, and who did it.
pub async fn run(config: &Config, errand: &Errand) -> Result<(Value, By)> {
    match UnixStream::connect(config.data.join(SOCKET)).await {
        Ok(stream) => Ok((by_agent(stream, errand).await?, By::Agent)),
        Err(_) => Ok((in_folder(config, errand).await?, By::Folder)),
    }
}

async fn by_agent(stream: UnixStream, errand: &Errand) -> Result<Value> {
    let (method, path, body) = match errand {
        Errand::Create { name, role } => {
            (Method::POST, "/api/v1/tokens".to_owned(), json!({"name": name, "role": role}).to_string())
        }
        Errand::List => (Method::GET, "/api/v1/tokens".to_owned(), String::new()),
        Errand::Revoke { name } => (Method::DELETE, format!("/api/v1/tokens/{name}"), String::new()),
    };
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Full::new(Bytes::from(body))).context("cannot ask the running agent")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let response = sender.send_request(request).await.context("the running agent does not answer")?;
        let well = response.status().is_success();
        let bytes = response.into_body().collect().await.context("the running agent broke off")?.to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).context("the running agent answers no JSON")?;
        if well { Ok(answer) } else { Err(refused(answer["detail"].as_str().unwrap_or_default())) }
    };
    tokio::select! {
        answer = asking => answer,
        ended = connection => bail!("the running agent hung up: {ended:?}"),
    }
}

async fn in_folder(config: &Config, errand: &Errand) -> Result<Value> {
    let _lock = Lock::take(&config.data).context("it runs, but its socket in the data folder cannot be reached")?;
    let database = config.data.join("bootline.db");
    let (ledger, writer) = Ledger::open(&database, &config.root, config.core.clone(), Clock::default())?;
    let caller = Caller::nameless(Role::Admin);
    let answer = match errand {
        Errand::Create { name, role } => tokens::make(&ledger, &caller, name, *role).await,
        Errand::List => tokens::run(&ledger, &caller, "token.list", json!({})).await,
        Errand::Revoke { name } => tokens::run(&ledger, &caller, "token.revoke", json!({"token": name})).await,
    };
    drop(ledger);
    writer.join().map_err(|_| anyhow!("the ledger's thread ended in a panic"))?;
    answer.map_err(|problem| refused(&problem.detail))
}

fn refused(detail: &str) -> anyhow::Error {
    anyhow!("{detail}").context(Said)
}

/// Marks what the station's rules said no to, for the exit code.
#[derive(Debug)]
pub struct Said;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

/// Where the book is, for the message.
pub fn place(data: &Path, by: By) -> String {
    match by {
        By::Agent => format!("by the running agent of {}", data.display()),
        By::Folder => format!("in {}; no agent runs there", data.display()),
    }
}
