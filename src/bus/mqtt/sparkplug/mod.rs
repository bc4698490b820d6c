//! Sparkplug B 3.0 beside our own topics, for hosts that read nothing else: the client `{station}-spb`. An export:
//! states only, nothing is commanded here but the rebirth that every edge node owes, and nothing is made up for the
//! time without a connection; events do that.

mod model;
mod node;
pub(in crate::bus) mod payload;

use std::collections::BTreeMap;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{LastWill, SubscribeReasonCode};
use rumqttc::{AsyncClient, PublishOptions, SubscribeFilterInput};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::mqtt::connection::Connection;
use crate::bus::mqtt::letter::PATIENCE;
use crate::bus::mqtt::sparkplug::node::{Message, Names, Node, Readings};
use crate::bus::mqtt::{FileError, Settings};
use crate::bus::progress::Progress;
use crate::bus::transport::Lost;
use crate::core::device::Mac;
use crate::core::observation::{Input, Observation};
use crate::core::view::Telemetry;
use crate::ledger::{Follower, Ledger, Recorded, SessionFilter};

/// What changes of the station is published once in this time.
const PACE: Duration = Duration::from_secs(1);
/// More devices than are ever active at once.
const DEVICES: u32 = 10_000;
/// How long the goodbye may take.
const LAST_CALL: Duration = Duration::from_secs(2);

/// A group is one level of a topic.
pub fn check_group(group: &str) -> Result<(), FileError> {
    if group.is_empty() || group.len() > 64 || group.contains(['/', '+', '#']) || group.contains(char::is_control) {
        return Err(FileError::Group(group.to_owned()));
    }
    Ok(())
}

/// Exports until `stop`, if it is wanted at all.
pub async fn run(settings: Settings, ledger: Ledger, barred: CancellationToken, stop: CancellationToken) {
    let Some(group) = settings.sparkplug.clone() else { return };
    let names = Names::new(&group, &ledger.identity().station);
    let export = Export { settings, ledger, names };
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let start = Instant::now();
        let lost = tokio::select! {
            // It says goodbye by itself when the station stops.
            ended = export.session(&stop) => match ended {
                Ok(()) => return,
                Err(lost) => lost,
            },
            () = barred.cancelled() => return,
        };
        debug!(why = %lost, "the Sparkplug export has no connection");
        backoff.held(start.elapsed());
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(backoff.wait()) => {}
        }
    }
}

struct Export {
    settings: Settings,
    ledger: Ledger,
    names: Names,
}

impl Export {
    /// One connection from CONNECT to its end; `Ok` when the station stops.
    async fn session(&self, stop: &CancellationToken) -> Result<(), Lost> {
        let mut node = Node::new(self.names.clone(), self.count_birth().await?);
        let client_id = format!("{}-spb", self.ledger.identity().station);
        let mut options = self.settings.options(&client_id).await?;
        let death = node.death(self.ledger.now());
        options.set_clean_start(true).set_last_will(LastWill::new(
            self.names.death(),
            death,
            QoS::AtLeastOnce,
            false,
            None,
        ));
        let Some(opened) = stop.run_until_cancelled(Connection::open(options)).await else {
            return Ok(());
        };
        let mut connection = opened?;
        let served = self.serve(&mut connection, &mut node, stop).await;
        if served.is_ok() {
            self.leave(&connection.client, &node).await;
            connection.close().await;
        }
        served
    }

    /// The number of a connection stands in the ledger before CONNECT: no two have the same one, but for 256 between.
    async fn count_birth(&self) -> Result<u8, Lost> {
        let fault = |error: crate::ledger::SubmitError| Lost(error.to_string());
        let last = self.ledger.births().await.map_err(fault)?;
        let next = last.map_or(0, |last| last.wrapping_add(1));
        let counted = Observation::BirthCounted { number: next };
        self.ledger.submit(Input::Observed(counted)).await.map_err(fault)?;
        Ok(next)
    }

    async fn serve(&self, connection: &mut Connection, node: &mut Node, stop: &CancellationToken) -> Result<(), Lost> {
        let Connection { client, inbox, pump, .. } = connection;
        let client = &*client;
        // What happens from here on is read on; what was, is in the tables.
        let mut follower = self.ledger.follow(self.ledger.newest());
        let mut progress = Progress::new(self.ledger.telemetry());
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::select! {
            born = self.begin(client, node) => born?,
            lost = pump.gone() => return Err(lost),
            () = stop.cancelled() => return Ok(()),
        }
        info!("Sparkplug hosts see the station");
        loop {
            let messages = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                lost = pump.gone() => return Err(lost),
                Some(command) = inbox.recv() => match node::wants_rebirth(&command.payload) {
                    true => node.birth(self.ledger.now()),
                    false => continue,
                },
                // Cancel-safe, all three of them.
                page = next(&mut follower) => self.happened(node, &page?),
                Some(reports) = progress.next() => self.progressed(node, &reports),
                _ = ticks.tick() => {
                    let readings = self.station().await?;
                    node.station(readings, self.ledger.now()).into_iter().collect()
                }
            };
            publish(client, messages).await?;
        }
    }

    /// Subscribes to commands before the birth, as the specification wants it.
    async fn begin(&self, client: &AsyncClient, node: &mut Node) -> Result<(), Lost> {
        let filter = SubscribeFilterInput::new(self.names.commands(), QoS::AtLeastOnce);
        let notice = client.subscribe_many_tracked([filter]).await.map_err(|error| Lost(error.to_string()))?;
        let answer = timeout(PATIENCE, notice.wait_async()).await.map_err(|_| Lost("no SUBACK for 10 s".to_owned()))?;
        let codes = answer.map_err(|error| Lost(error.to_string()))?.return_codes;
        if !codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            warn!(?codes, "the MQTT broker gives us no Sparkplug commands; hosts cannot ask for a rebirth");
        }
        node.prepare(self.station().await?, self.devices().await?);
        publish(client, node.birth(self.ledger.now())).await
    }

    async fn station(&self) -> Result<Readings, Lost> {
        let fault = |error: crate::ledger::SubmitError| Lost(error.to_string());
        let (counts, _) = self.ledger.counts().await.map_err(fault)?;
        Ok(model::station(self.ledger.identity(), &counts, &self.ledger.delivery()))
    }

    async fn devices(&self) -> Result<BTreeMap<Mac, Readings>, Lost> {
        let open = SessionFilter { outcome: Some("open".to_owned()), limit: DEVICES, ..SessionFilter::default() };
        let sessions = self.ledger.sessions(open).await.map_err(|error| Lost(error.to_string()))?;
        Ok(sessions.iter().map(|listed| (listed.session.mac, model::device(&listed.session))).collect())
    }

    fn happened(&self, node: &mut Node, page: &[Recorded]) -> Vec<Message> {
        let now = self.ledger.now();
        let mut messages = Vec::new();
        for event in page {
            let seen = model::event(event, |mac| node.readings(mac).cloned());
            if let Some(seen) = seen {
                messages.extend(node.device(seen.mac, seen.readings, now));
                if seen.is_end {
                    messages.extend(node.end(seen.mac, now));
                }
            }
        }
        messages
    }

    fn progressed(&self, node: &mut Node, reports: &[Telemetry]) -> Vec<Message> {
        let mut messages = Vec::new();
        for report in reports {
            if let Some(known) = node.readings(report.mac) {
                let readings = model::progress(known, report);
                messages.extend(node.device(report.mac, readings, self.ledger.now()));
            }
        }
        messages
    }

    /// A DISCONNECT takes the Will away, so the death is published before.
    async fn leave(&self, client: &AsyncClient, node: &Node) {
        let goodbye = async {
            let body = node.death(self.ledger.now());
            let sent = client.publish_tracked(self.names.death(), body, PublishOptions::at_least_once()).await;
            if let Ok(notice) = sent {
                notice.wait_async().await.ok();
            }
        };
        if timeout(LAST_CALL, goodbye).await.is_err() {
            debug!("the Sparkplug goodbye was not acknowledged in time");
        }
    }
}

async fn next(follower: &mut Follower) -> Result<Vec<Recorded>, Lost> {
    follower.next().await.map_err(|error| Lost(error.to_string()))
}

/// A message that is left out would be a gap in the sequence: what finds no way ends the connection.
async fn publish(client: &AsyncClient, messages: Vec<Message>) -> Result<(), Lost> {
    for Message { topic, body } in messages {
        match timeout(PATIENCE, client.publish(topic, body, PublishOptions::at_most_once())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Lost(error.to_string())),
            Err(_) => return Err(Lost("the connection takes nothing".to_owned())),
        }
    }
    Ok(())
}
