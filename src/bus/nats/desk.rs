//! Requests, presence and progress over NATS.
//!
//! Here the library may reconnect by itself: a requester whose reply is lost asks again with the same `command_id`,
//! and presence is repeated anyway.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::header::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::service::{
    NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, Request, Service, ServiceExt, endpoint::Endpoint,
};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::birth::{Absence, Birth, Session};
use crate::bus::commands::{self, AT_ONCE};
use crate::bus::nats::outlet::chain;
use crate::bus::nats::{News, Settings};
use crate::bus::progress::Progress;
use crate::bus::topic::Subjects;
use crate::bus::transport::Lost;
use crate::core::command::{NAMES, Transport};
use crate::ledger::Ledger;

const SERVICE: &str = "bootline-station";
const BUCKET: &str = "bootline_stations";
/// NATS has no Will: who has not been heard for three of these is away.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_CALL: Duration = Duration::from_secs(2);

pub struct Desk {
    pub settings: Settings,
    pub ledger: Ledger,
    pub subjects: Subjects,
    pub birth: Birth,
}

type Requests = SelectAll<stream::BoxStream<'static, (&'static str, Request)>>;

impl Desk {
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut known = Lost(String::new());
        while !stop.is_cancelled() {
            let Err(lost) = self.session(&stop).await else {
                return;
            };
            // A broker may be away for days; it is said once.
            if lost == known {
                debug!(why = %lost, "the NATS server does not hear the station");
            } else {
                warn!(why = %lost, "the NATS server does not hear the station");
            }
            known = lost;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.wait()) => {}
            }
        }
    }

    async fn session(&self, stop: &CancellationToken) -> Result<(), Lost> {
        let station = &self.ledger.identity().station;
        let options = self.settings.options(&format!("bootline/{station}"), station).await?;
        let options = News::new().listen(options);
        let Some(connected) = stop.run_until_cancelled(options.connect(self.settings.url.as_str())).await else {
            return Ok(());
        };
        let client = connected.map_err(|error| Lost(chain(&error)))?;
        let (service, requests) = self.service(&client).await.map_err(|error| Lost(error.to_string()))?;
        info!("the NATS server hears the station");
        // From here on the library keeps the connection, so this ends only when the station stops.
        let session = self.birth.session();
        tokio::join!(self.serve(requests, stop), self.presence(&client, &session, stop), self.progress(&client, stop),);
        service.stop().await.ok();
        let farewell = async {
            client.flush().await.ok();
            client.drain().await.ok();
        };
        let _ = timeout(LAST_CALL, farewell).await;
        Ok(())
    }

    /// Registers the service with an endpoint a command.
    async fn service(&self, client: &Client) -> Result<(Service, Requests), Box<dyn Error + Send + Sync>> {
        let identity = self.ledger.identity();
        let metadata = HashMap::from([
            ("station".to_owned(), identity.station.clone()),
            ("epoch".to_owned(), identity.epoch.clone()),
            ("api".to_owned(), "v1".to_owned()),
        ]);
        let service = client
            .service_builder()
            .description("a bootline station: provisions Raspberry Pi Compute Modules")
            .metadata(metadata)
            .start(SERVICE, &identity.version)
            .await?;
        let group = service.group(self.subjects.commands());
        let mut requests = SelectAll::new();
        for name in NAMES {
            let endpoint: Endpoint = group.endpoint_builder().name(name.replace('.', "-")).add(name).await?;
            requests.push(endpoint.map(move |request| (name, request)).boxed());
        }
        Ok((service, requests))
    }

    /// Takes and answers requests until the station stops.
    async fn serve(&self, mut requests: Requests, stop: &CancellationToken) {
        let mut work = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = work.next() => {}
                Some((name, request)) = requests.next(), if work.len() < AT_ONCE => {
                    work.push(self.handle(name, request));
                }
            }
        }
        let rest = async { while work.next().await.is_some() {} };
        let _ = timeout(LAST_CALL, rest).await;
    }

    async fn handle(&self, name: &str, request: Request) {
        let reply = commands::answer(&self.ledger, name, &request.message.payload, Transport::Nats).await;
        debug!(command = %reply.command_id, name, code = reply.code, "answered over NATS");
        // The library would send an error without a body; ours goes with the same body as everywhere.
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/json");
        if let Some(error) = &reply.error {
            headers.insert(NATS_SERVICE_ERROR, error.code.as_str());
            headers.insert(NATS_SERVICE_ERROR_CODE, reply.code.to_string());
        }
        if request.message.reply.is_none() {
            debug!(name, "a request names no reply subject");
        } else if let Err(error) = request.respond_with_headers(Ok(commands::bytes(&reply)), headers).await {
            warn!(name, %error, "a reply is not sent");
        }
    }

    /// Repeats that the station is here, and says so when it goes.
    async fn presence(&self, client: &Client, session: &Session, stop: &CancellationToken) {
        let context = jetstream::new(client.clone());
        let mut bucket: Option<Store> = None;
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(beat.tick()).await.is_some() {
            // While it is not connected the library would queue, and then block.
            if client.connection_state() != State::Connected {
                continue;
            }
            let told = stop.run_until_cancelled(self.tell(&context, &mut bucket, session.online())).await;
            if let Some(Err(why)) = told {
                warn!(%why, "the NATS server does not take our presence");
                bucket = None;
            }
        }
        if let Some(bucket) = &bucket
            && client.connection_state() == State::Connected
        {
            let goodbye = bucket.put(&self.ledger.identity().station, session.offline(Absence::Shutdown));
            if !matches!(timeout(LAST_CALL, goodbye).await, Ok(Ok(_))) {
                debug!("the goodbye did not get out");
            }
        }
    }

    async fn tell(&self, context: &jetstream::Context, bucket: &mut Option<Store>, online: Bytes) -> Result<(), Lost> {
        let station = &self.ledger.identity().station;
        let store = match bucket {
            Some(store) => store,
            None => bucket.insert(open_bucket(context).await?),
        };
        store.put(format!("{station}.info"), self.birth.info().await).await.map_err(|error| Lost(chain(&error)))?;
        store.put(station, online).await.map_err(|error| Lost(chain(&error)))?;
        Ok(())
    }

    async fn progress(&self, client: &Client, stop: &CancellationToken) {
        let mut progress = Progress::new(self.ledger.telemetry());
        while let Some(Some(reports)) = stop.run_until_cancelled(progress.next()).await {
            for report in reports {
                if client.connection_state() != State::Connected {
                    break;
                }
                let body = serde_json::to_vec(&report).expect("a report is flat JSON");
                if let Err(error) = client.publish(self.subjects.telemetry(report.mac), body.into()).await {
                    debug!(mac = %report.mac, %error, "a progress is dropped");
                }
            }
        }
    }
}

/// Opens the bucket, made by hand where it is not there: `create_key_value` of async-nats 0.51 fails on nats-server
/// 2.9.10, whose account answer lacks two fields. These are the flags that it would set.
async fn open_bucket(context: &jetstream::Context) -> Result<Store, Lost> {
    let stream = Config {
        name: format!("KV_{BUCKET}"),
        subjects: vec![format!("$KV.{BUCKET}.>")],
        storage: StorageType::File,
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    context.get_or_create_stream(stream).await.map_err(|error| Lost(chain(&error)))?;
    context.get_key_value(BUCKET).await.map_err(|error| Lost(chain(&error)))
}
