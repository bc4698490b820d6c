//! The station as a micro service (ADR-32): an endpoint for each command, on its own subject, on the one that any
//! station answers, and for reading commands on the one that all answer.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Client;
use async_nats::service::{Group, Request, Service, ServiceExt};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use serde_json::json;

use crate::bus::commands::{request_schema, response_schema};
use crate::bus::topic::Subjects;
use crate::core::command::{NAMES, is_read};
use crate::ledger::Ledger;

pub const SERVICE: &str = "bootline-station";
const DESCRIPTION: &str = "a bootline station: provisions Raspberry Pi Compute Modules";

/// A request at the endpoint of one command.
pub struct Asked {
    /// Of the endpoint.
    pub endpoint: String,
    /// Of the command.
    pub name: &'static str,
    pub request: Request,
}

pub type Requests = SelectAll<BoxStream<'static, Asked>>;

/// How many requests of an endpoint were answered with an error. The library counts only errors without a body.
#[derive(Clone, Default)]
pub struct Errors(Arc<BTreeMap<String, AtomicU64>>);

impl Errors {
    fn new() -> Self {
        let names = NAMES.iter().flat_map(|name| Audience::ALL.iter().map(|audience| audience.endpoint(name)));
        Self(Arc::new(names.map(|name| (name, AtomicU64::new(0))).collect()))
    }

    pub fn count(&self, endpoint: &str) {
        if let Some(count) = self.0.get(endpoint) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, endpoint: &str) -> u64 {
        self.0.get(endpoint).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Who answers a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    Own,
    /// One of the stations: all are in one queue group.
    Any,
    /// Each of the stations: each is in a queue group of its own. (The library knows no endpoint without one.)
    All,
}

impl Audience {
    const ALL: [Self; 3] = [Self::Own, Self::Any, Self::All];

    fn endpoint(self, name: &str) -> String {
        let name = name.replace('.', "-");
        match self {
            Self::Own => name,
            Self::Any => format!("any-{name}"),
            Self::All => format!("all-{name}"),
        }
    }

    /// Every station of a site may be asked at once for what changes nothing.
    fn commands(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |name| self != Self::All || is_read(name))
    }

    fn group(self, service: &Service, subjects: &Subjects, station: &str) -> Group {
        match self {
            Self::Own => service.group(subjects.commands()),
            Self::Any => service.group(Subjects::ANY_COMMANDS),
            Self::All => service.group_with_queue_group(Subjects::ALL_COMMANDS, station),
        }
    }
}

/// What is registered, until it is dropped or stopped.
pub struct Registered {
    pub service: Service,
    pub requests: Requests,
    pub errors: Errors,
}

pub async fn register(
    client: &Client,
    ledger: &Ledger,
    subjects: &Subjects,
    rest: Option<&str>,
    stored: Arc<AtomicU64>,
) -> Result<Registered, Box<dyn Error + Send + Sync>> {
    let identity = ledger.identity();
    let station = identity.station.clone();
    let mut metadata = HashMap::from([
        ("station".to_owned(), station.clone()),
        ("epoch".to_owned(), identity.epoch.clone()),
        ("api".to_owned(), "v1".to_owned()),
    ]);
    metadata.extend(rest.map(|rest| ("rest".to_owned(), rest.to_owned())));
    let errors = Errors::new();
    let (counted, book) = (errors.clone(), ledger.clone());
    let service = client
        .service_builder()
        .description(DESCRIPTION)
        .metadata(metadata)
        .stats_handler(move |endpoint, _| {
            json!({
                "errors": counted.of(&endpoint),
                "newest_sequence": book.newest(),
                "stored_sequence": stored.load(Ordering::Relaxed),
            })
        })
        .start(SERVICE, &identity.version)
        .await?;
    let mut requests = SelectAll::new();
    for audience in Audience::ALL {
        let group = audience.group(&service, subjects, &station);
        for name in audience.commands() {
            let endpoint = audience.endpoint(name);
            let schemas = HashMap::from([
                ("request_schema".to_owned(), request_schema(name)),
                ("response_schema".to_owned(), response_schema(name)),
            ]);
            let asked = group.endpoint_builder().name(&endpoint).metadata(schemas).add(name).await?;
            requests.push(asked.map(move |request| Asked { endpoint: endpoint.clone(), name, request }).boxed());
        }
    }
    Ok(Registered { service, requests, errors })
}
