//! The client `{station}`: announces the station, takes requests and answers them, keeps its states.
//!
//! Its session at the broker outlives the process for seven days, so requests wait while the station is away. A
//! request is acknowledged to the broker after it was carried out and answered: a crash in between brings it again,
//! and the inbox of the ledger answers a repeated `command_id` without doing anything twice.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{LastWill, LastWillProperties, Publish, RetainForwardRule, SubscribeReasonCode};
use rumqttc::{AckMode, AsyncClient, MqttOptions, SubscribeFilterInput};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::birth::{Absence, Birth, Session};
use crate::bus::commands::AT_ONCE;
use crate::bus::mqtt::Settings;
use crate::bus::mqtt::board::Board;
use crate::bus::mqtt::connection::{Connection, Granted, is_takeover};
use crate::bus::mqtt::counter::Counter;
use crate::bus::mqtt::letter::{self, PATIENCE};
use crate::bus::mqtt::session::{Nothing, SESSION_EXPIRY, WINDOW};
use crate::bus::mqtt::takeover::Takeovers;
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::core::observation::{Input, Observation};
use crate::ledger::Ledger;

/// A broken connection that is back within this time is not announced, in seconds.
const WILL_DELAY: u32 = 10;
/// How long a stopping station goes on answering, and how long its goodbye may take.
const LAST_CALL: Duration = Duration::from_secs(2);
/// Between two attempts to subscribe where the broker says no; whoever mends its rights need not start us again.
const RESUBSCRIBE: Duration = Duration::from_secs(60);
/// A connection that held for so long is not thrown out by a second station.
const ALONE: Duration = Duration::from_secs(60);

const DUPLICATE: &str = "bus.duplicate_station";
const UNHEARD: &str = "bus.subscription_refused.mqtt";

/// Whether a message came before or after the station had said that it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Before,
    After,
}

pub struct Desk {
    pub settings: Settings,
    pub ledger: Ledger,
    pub topics: Topics,
    pub birth: Birth,
    /// True while the station is announced.
    pub born: watch::Sender<bool>,
    /// Cancelled when there is a second station of this name: then we are silent.
    pub barred: CancellationToken,
    /// The newest session of somebody else who was online by our name: mosquitto 2.0.11 hangs up on a client that is
    /// taken over without saying so. A broker may go on telling of our own former life, but that is one session only.
    pub rival: watch::Sender<Option<String>>,
}

impl Desk {
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut known = Lost(String::new());
        let mut takeovers = Takeovers::default();
        let mut known_rival = None;
        while !stop.is_cancelled() {
            let Err(lost) = self.session(&mut backoff, &stop).await else {
                return;
            };
            self.born.send_replace(false);
            // A broker may be away for days; it is said once.
            if lost == known {
                debug!(why = %lost, "the MQTT broker does not hear the station");
            } else {
                warn!(why = %lost, "the MQTT broker does not hear the station");
            }
            let rival = self.rival.borrow().clone();
            let is_new = rival.is_some() && rival != known_rival;
            known_rival = rival;
            if (is_new || is_takeover(&lost)) && takeovers.note(Instant::now()) {
                return self.give_way().await;
            }
            known = lost;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.wait()) => {}
            }
        }
    }

    /// One of two has to be silent, or neither is heard.
    async fn give_way(&self) {
        let station = &self.ledger.identity().station;
        error!(station, "another station of this name is at the MQTT broker; this one is silent there from now on");
        self.barred.cancel();
        let detail = format!(
            "another station {station:?} takes over our session at the MQTT broker; this one sends and takes nothing \
             there until it is started anew: give one of them another station.id"
        );
        self.tell(Observation::AlarmRaised { code: DUPLICATE.to_owned(), detail }).await;
    }

    async fn tell(&self, observation: Observation) {
        if let Err(error) = self.ledger.submit(Input::Observed(observation)).await {
            warn!(%error, "cannot write down an alarm");
        }
    }

    /// One connection from CONNECT to its end; `Ok` when the station stops.
    async fn session(&self, backoff: &mut Backoff, stop: &CancellationToken) -> Result<(), Lost> {
        let session = self.birth.session();
        let options = self.options(&session).await?;
        let Some(opened) = stop.run_until_cancelled(Connection::open(options)).await else {
            return Ok(());
        };
        let mut connection = opened?;
        let Connection { client, pump, granted, .. } = &mut connection;
        let hears = tokio::select! {
            announced = self.announce(client, *granted, &session) => announced,
            lost = pump.gone() => Err(lost),
        };
        let hears = match hears {
            Ok(hears) => hears,
            Err(lost) => return Err(pump.cause(lost).await),
        };
        info!("the MQTT broker hears the station");
        self.born.send_replace(true);
        let start = Instant::now();
        let served = self.serve(&mut connection, &session, hears, stop).await;
        backoff.held(start.elapsed());
        if let Err(lost) = served {
            return Err(connection.pump.cause(lost).await);
        }
        self.leave(&connection.client, &session).await;
        connection.close().await;
        Ok(())
    }

    async fn options(&self, session: &Session) -> Result<MqttOptions, Lost> {
        let station = &self.ledger.identity().station;
        let mut options = self.settings.options(station).await?;
        let properties = LastWillProperties {
            delay_interval: Some(WILL_DELAY),
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some("application/json".to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        let goodbye = session.offline(Absence::ConnectionLost).to_vec();
        options
            .set_last_will(LastWill::new(self.topics.presence(), goodbye, QoS::AtLeastOnce, true, Some(properties)))
            .set_clean_start(false)
            .set_session_expiry_interval(Some(SESSION_EXPIRY))
            .set_receive_maximum(Some(u16::try_from(AT_ONCE).expect("a handful fits")))
            .set_ack_mode(AckMode::Manual)
            .set_outgoing_inflight_upper_limit(WINDOW)
            .set_session_store(Nothing { client_id: station.clone() });
        Ok(options)
    }

    /// Subscribes (whatever the broker says it remembers), then tells what can be asked here, then that we are here.
    async fn announce(&self, client: &AsyncClient, granted: Granted, session: &Session) -> Result<bool, Lost> {
        let hears = self.subscribe(client, granted).await?;
        let info = self.birth.info();
        if letter::fits(&self.topics.info(), &info, granted.max_packet) {
            letter::state(client, self.topics.info(), info, None).await?;
        }
        letter::state(client, self.topics.presence(), session.online(), None).await?;
        Ok(hears)
    }

    /// True when the broker gives us the requests to this station; the other filters may well be none of our business.
    async fn subscribe(&self, client: &AsyncClient, granted: Granted) -> Result<bool, Lost> {
        // A retained request would be carried out at every reconnect: stored ones are not wanted at all, and live
        // ones keep their flag, so that they can be refused.
        let requests = |filter: String| {
            SubscribeFilterInput::new(filter, QoS::AtLeastOnce)
                .preserve_retain(true)
                .retain_forward_rule(RetainForwardRule::Never)
        };
        // What the broker keeps of us may be of a former life.
        let own = |filter: String| SubscribeFilterInput::new(filter, QoS::AtLeastOnce);
        let mut filters = vec![
            requests(self.topics.requests()),
            requests(self.topics.all_requests()),
            own(self.topics.presence()),
            own(self.topics.projects()),
        ];
        if granted.shared {
            filters.push(requests(self.topics.any_requests()));
        } else {
            warn!("the MQTT broker has no shared subscriptions; requests to any station do not come here");
        }
        let notice = client.subscribe_many_tracked(filters).await.map_err(|error| Lost(error.to_string()))?;
        let answer = timeout(PATIENCE, notice.wait_async()).await.map_err(|_| Lost("no SUBACK for 10 s".to_owned()))?;
        let codes = answer.map_err(|error| Lost(error.to_string()))?.return_codes;
        let heard = matches!(codes.first(), Some(SubscribeReasonCode::Success(_)));
        if !codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            warn!(?codes, "the MQTT broker does not give us all that we subscribe to");
        }
        self.tell(if heard {
            Observation::AlarmCleared { code: UNHEARD.to_owned() }
        } else {
            let detail = format!(
                "the MQTT broker refuses the subscription to {}: {:?}; requests to this station are not heard",
                self.topics.requests(),
                codes.first()
            );
            Observation::AlarmRaised { code: UNHEARD.to_owned(), detail }
        })
        .await;
        Ok(heard)
    }

    /// Takes and answers requests until the connection ends or the station stops.
    async fn serve(
        &self,
        connection: &mut Connection,
        session: &Session,
        mut hears: bool,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let Connection { client, granted, inbox, pump } = connection;
        let (client, granted) = (&*client, *granted);
        let mut board = Board::new((client, granted.max_packet), &self.ledger, &self.topics, &self.birth);
        let mut kept = std::pin::pin!(board.keep());
        let mut alone = std::pin::pin!(sleep(ALONE));
        let mut is_alone = false;
        let mut again = interval_at(Instant::now() + RESUBSCRIBE, RESUBSCRIBE);
        // In order, so that a request is given to the ledger and acknowledged in the order of arrival.
        let mut work: FuturesOrdered<BoxFuture<'_, Publish>> = FuturesOrdered::new();
        // What is here by now, the broker sent before it had our presence.
        let mut early = inbox.len();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                lost = pump.gone() => return Err(lost),
                lost = &mut kept => return Err(lost),
                Some(done) = work.next() => acknowledge(client, &done),
                Some(message) = inbox.recv(), if work.len() < AT_ONCE => {
                    let arrival = if early > 0 { Arrival::Before } else { Arrival::After };
                    early = early.saturating_sub(1);
                    work.push_back(Box::pin(self.handle(client, granted, session, (arrival, message))));
                }
                _ = again.tick(), if !hears => hears = self.subscribe(client, granted).await?,
                () = &mut alone, if !is_alone => {
                    is_alone = true;
                    self.tell(Observation::AlarmCleared { code: DUPLICATE.to_owned() }).await;
                }
            }
        }
        let rest = async {
            while let Some(done) = work.next().await {
                acknowledge(client, &done);
            }
        };
        tokio::select! {
            lost = pump.gone() => Err(lost),
            _ = timeout(LAST_CALL, rest) => Ok(()),
        }
    }

    /// Does what a message asks for; gives it back to be acknowledged.
    async fn handle(
        &self,
        client: &AsyncClient,
        granted: Granted,
        session: &Session,
        (arrival, message): (Arrival, Publish),
    ) -> Publish {
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        if let Some((audience, name)) = self.topics.command(&topic) {
            let counter = Counter { client, granted, ledger: &self.ledger, topics: &self.topics };
            counter.serve(audience, &name, &message).await;
        } else if let Err(why) = self.correct(client, session, topic, (arrival, &message)).await {
            debug!(%why, "a state of a former life stays at the broker");
        }
        message
    }

    /// What the broker keeps of us must be true: a Will that came late, a project that is gone.
    async fn correct(
        &self,
        client: &AsyncClient,
        session: &Session,
        topic: String,
        (arrival, message): (Arrival, &Publish),
    ) -> Result<(), Lost> {
        let body = message.payload.as_ref();
        if topic == self.topics.presence() {
            let said: Value = serde_json::from_slice(body).unwrap_or_default();
            if said["online"] == true {
                if said["boot_id"] != session.boot_id() {
                    self.rival.send_replace(said["session"].as_str().map(str::to_owned));
                }
                return Ok(());
            }
            if arrival == Arrival::Before || message.retain {
                // The end of our former life, which waited for us; we have said otherwise since.
                return Ok(());
            }
            info!("the MQTT broker said that the station is away; it is told otherwise");
            return letter::state(client, topic, session.online(), None).await;
        }
        match self.topics.project_of(&topic) {
            Some(id) if !body.is_empty() => {
                // If the ledger cannot be read, the state expires by itself.
                let known = self.ledger.projects().await.map(|all| all.iter().any(|project| project.id.as_str() == id));
                if known.is_ok_and(|known| !known) {
                    return letter::state(client, topic, Bytes::new(), None).await;
                }
            }
            Some(_) => {}
            None => warn!(topic, "a message where no request can be is ignored"),
        }
        Ok(())
    }

    /// Says that the station goes, because a DISCONNECT takes the Will away.
    async fn leave(&self, client: &AsyncClient, session: &Session) {
        let goodbye = letter::state(client, self.topics.presence(), session.offline(Absence::Shutdown), None);
        match timeout(LAST_CALL, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => debug!(%why, "the goodbye did not get out"),
            Err(_) => debug!("the goodbye was not acknowledged in time"),
        }
    }
}

fn acknowledge(client: &AsyncClient, request: &Publish) {
    if let Err(error) = client.try_ack(request) {
        debug!(%error, "a request is not acknowledged and will come again");
    }
}
