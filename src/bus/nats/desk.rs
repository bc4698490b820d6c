//! Requests, state and progress over NATS: one connection from its start to its end, then the next.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::jetstream;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::birth::Birth;
use crate::bus::commands;
use crate::bus::nats::board::Board;
use crate::bus::nats::connection::{Connection, PATIENCE, Trouble};
use crate::bus::nats::kv::Kv;
use crate::bus::nats::service::{self, Asked, Errors, Registered, Requests};
use crate::bus::nats::settings::Settings;
use crate::bus::progress::Progress;
use crate::bus::topic::Subjects;
use crate::core::command::{Reply, Salutation, Transport};
use crate::core::refusal::Refusal;
use crate::ledger::Ledger;

/// So many requests are in work at once, as many as the ledger commits together; who comes then is told to come again.
const AT_ONCE: usize = 64;
const BUSY_SECONDS: u64 = 1;
/// How long a stopping station goes on answering.
const LAST_CALL: Duration = Duration::from_secs(2);
/// What a reply needs besides its body, rounded up.
const OVERHEAD: usize = 1024;

pub struct Desk {
    pub settings: Settings,
    pub ledger: Ledger,
    pub subjects: Subjects,
    pub birth: Birth,
    /// The newest event that the stream has.
    pub stored: Arc<AtomicU64>,
}

impl Desk {
    pub async fn run(self, stop: CancellationToken) {
        let mut board = Board::new(self.ledger.clone(), self.birth.clone(), &self.settings);
        let mut backoff = Backoff::default();
        let mut known = String::new();
        while !stop.is_cancelled() {
            let start = Instant::now();
            let Err(trouble) = Box::pin(self.session(&mut board, &stop)).await else {
                return;
            };
            backoff.held(start.elapsed());
            if let Trouble::Refused(reason) = &trouble {
                board.denied(reason).await;
            }
            // A server may be away for days; it is said once.
            let why = trouble.to_string();
            if why == known {
                debug!(%why, "the NATS server does not hear the station");
            } else {
                warn!(%why, "the NATS server does not hear the station");
            }
            known = why;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.wait()) => {}
            }
        }
    }

    /// One connection; `Ok` when the station stops.
    async fn session(&self, board: &mut Board, stop: &CancellationToken) -> Result<(), Trouble> {
        let station = &self.ledger.identity().station;
        let name = format!("bootline/{station}");
        let opened = stop.run_until_cancelled(Connection::open(&self.settings, &name, station)).await;
        let Some(opened) = opened else {
            return Ok(());
        };
        let connection = opened?;
        let (client, stored) = (&connection.client, Arc::clone(&self.stored));
        let registered = service::register(client, &self.ledger, &self.subjects, self.birth.rest(), stored).await;
        let Registered { service, requests, errors } =
            registered.map_err(|error| connection.news.away(&error.to_string()))?;
        info!("the NATS server hears the station");
        let kv = Kv { context: jetstream::new(client.clone()), news: connection.news.clone() };
        let session = self.birth.session();
        let over = CancellationToken::new();
        let watch = async {
            let end = end(&connection, self.settings.again, stop).await;
            over.cancel();
            end
        };
        let state = board.run(&kv, &session, &over);
        let requests = self.serve(&connection, requests, &errors, &over);
        let (end, (), (), ()) = tokio::join!(watch, state, requests, self.progress(&connection, &over));
        service.stop().await.ok();
        if end.is_ok() && connection.is_up() {
            board.goodbye(&kv, &session).await;
        }
        connection.close().await;
        end
    }

    /// Takes and answers requests until the connection is over, then answers those that are in work.
    async fn serve(&self, connection: &Connection, mut requests: Requests, errors: &Errors, over: &CancellationToken) {
        let mut work = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                Some(()) = work.next() => {}
                Some(asked) = requests.next() => {
                    if work.len() < AT_ONCE {
                        work.push(self.handle(connection, asked, errors));
                    } else {
                        self.turn_away(connection, asked, errors).await;
                    }
                }
            }
        }
        let rest = async { while work.next().await.is_some() {} };
        let _ = timeout(LAST_CALL, rest).await;
    }

    async fn handle(&self, connection: &Connection, asked: Asked, errors: &Errors) {
        let message = &asked.request.message;
        if let Some(Err(wrong)) = message.reply.as_ref().map(|reply| Subjects::reply_address(reply)) {
            // There is no other place for an answer, so nothing is done either.
            warn!(name = asked.name, %wrong, "a request is ignored");
            return;
        }
        let reply = commands::answer(&self.ledger, asked.name, &message.payload, Transport::Nats).await;
        debug!(command = %reply.command_id, name = asked.name, code = reply.code, "answered over NATS");
        self.reply(connection, &asked, reply, errors).await;
    }

    /// Nothing has happened, and the same request may come again.
    async fn turn_away(&self, connection: &Connection, asked: Asked, errors: &Errors) {
        if asked.request.message.reply.as_ref().is_some_and(|reply| Subjects::reply_address(reply).is_ok()) {
            let salutation = Salutation::glean(&asked.request.message.payload);
            let refusal = Refusal::new(429, "busy", format!("{AT_ONCE} requests are in work; send it again"));
            let refusal = refusal.retryable_after(BUSY_SECONDS);
            let reply = commands::refuse(&self.ledger, asked.name, &salutation, refusal);
            self.reply(connection, &asked, reply, errors).await;
        }
    }

    async fn reply(&self, connection: &Connection, asked: &Asked, reply: Reply, errors: &Errors) {
        let name = asked.name;
        let (reply, body) = self.fitted(connection, asked, reply);
        // The library would send an error without a body; ours goes with the same body as everywhere.
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/json");
        if let Some(error) = &reply.error {
            errors.count(&asked.endpoint);
            headers.insert(NATS_SERVICE_ERROR, error.code.as_str());
            headers.insert(NATS_SERVICE_ERROR_CODE, reply.code.to_string());
        }
        if asked.request.message.reply.is_none() {
            debug!(name, "a request names no reply subject");
        } else if connection.is_up() {
            let sent = asked.request.respond_with_headers(Ok(body), headers);
            if !matches!(timeout(PATIENCE, sent).await, Ok(Ok(()))) {
                warn!(name, "a reply is not sent");
            }
        }
    }

    /// A reply that is larger than the server takes is another reply.
    fn fitted(&self, connection: &Connection, asked: &Asked, reply: Reply) -> (Reply, Bytes) {
        let body = commands::bytes(&reply);
        let room = connection.client.max_payload().saturating_sub(OVERHEAD);
        if body.len() <= room {
            return (reply, body);
        }
        let detail = format!("a reply of {} bytes; the server takes {room}", body.len());
        let salutation = Salutation::glean(&asked.request.message.payload);
        let refusal = Refusal::new(500, "reply_too_large", detail);
        let reply = commands::refuse(&self.ledger, asked.name, &salutation, refusal);
        let body = commands::bytes(&reply);
        (reply, body)
    }

    async fn progress(&self, connection: &Connection, over: &CancellationToken) {
        let mut progress = Progress::new(self.ledger.telemetry());
        while let Some(Some(reports)) = over.run_until_cancelled(progress.next()).await {
            for report in reports {
                let body = serde_json::to_vec(&report).expect("a report is flat JSON");
                let sent = connection.client.publish(self.subjects.telemetry(report.mac), body.into());
                // While it is not connected the library would queue, and then block.
                if !connection.is_up() || !matches!(timeout(PATIENCE, sent).await, Ok(Ok(()))) {
                    debug!(mac = %report.mac, "a progress is dropped");
                }
            }
        }
    }
}

/// Why a connection ends.
async fn end(connection: &Connection, after: Duration, stop: &CancellationToken) -> Result<(), Trouble> {
    let again = async {
        let denied = connection.news.denied("").await;
        sleep(after).await;
        denied
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        gone = connection.news.gone() => Err(gone),
        denied = again => Err(Trouble::Away(format!("{denied}; asking again"))),
    }
}
