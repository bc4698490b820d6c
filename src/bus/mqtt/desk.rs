//! The client `{station}`: announces the station, takes requests and answers them.
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
use rumqttc::mqttbytes::v5::{
    LastWill, LastWillProperties, Publish, PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::{
    AckMode, AsyncClient, MqttOptions, PersistedAckMode, PersistedSession, PublishNotice, PublishOptions, SessionStore,
    SessionStoreError, SessionStoreKey, SubscribeFilterInput,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bus::backoff::Backoff;
use crate::bus::birth::{Absence, Birth, Session};
use crate::bus::commands::{self, AT_ONCE};
use crate::bus::mqtt::Settings;
use crate::bus::mqtt::connection::{Connection, Granted};
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::core::command::{Salutation, Transport};
use crate::core::refusal::Refusal;
use crate::ledger::Ledger;

/// How long the broker keeps requests for a station that is away, in seconds.
const SESSION_EXPIRY: u32 = 7 * 24 * 3600;
/// A broken connection that is back within this time is not announced, in seconds.
const WILL_DELAY: u32 = 10;
/// How long a reply may wait for its reader, in seconds.
const REPLY_EXPIRY: u32 = 3600;
/// Messages of ours on the way at once.
const WINDOW: u16 = 64;
/// How long the broker may take for an acknowledgement of ours.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stopping station goes on answering, and how long its goodbye may take.
const LAST_CALL: Duration = Duration::from_secs(2);
/// What a reply's packet needs besides topic, correlation data and body, rounded up.
const OVERHEAD: usize = 128;

pub struct Desk {
    pub settings: Settings,
    pub ledger: Ledger,
    pub topics: Topics,
    pub birth: Birth,
    /// True while the station is announced.
    pub born: watch::Sender<bool>,
}

/// Where a reply goes.
struct Address {
    topic: String,
    correlation: Option<Bytes>,
}

impl Desk {
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            let Err(lost) = self.session(&mut backoff, &stop).await else {
                return;
            };
            self.born.send_replace(false);
            warn!(why = %lost, "the MQTT broker does not hear the station");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.wait()) => {}
            }
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
        let Connection { client, pump, .. } = &mut connection;
        tokio::select! {
            announced = self.announce(client, &session) => announced?,
            lost = pump.gone() => return Err(lost),
        }
        info!("the MQTT broker hears the station");
        self.born.send_replace(true);
        let start = Instant::now();
        let served = self.serve(&mut connection, stop).await;
        backoff.held(start.elapsed());
        served?;
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
    async fn announce(&self, client: &AsyncClient, session: &Session) -> Result<(), Lost> {
        // A retained request would be carried out at every reconnect: stored ones are not wanted at all, and live
        // ones keep their flag, so that they can be refused.
        let filter = SubscribeFilterInput::new(self.topics.requests(), QoS::AtLeastOnce)
            .preserve_retain(true)
            .retain_forward_rule(RetainForwardRule::Never);
        let notice = client.subscribe_many_tracked([filter]).await.map_err(|error| Lost(error.to_string()))?;
        let answer = timeout(PATIENCE, notice.wait_async()).await.map_err(|_| Lost("no SUBACK for 10 s".to_owned()))?;
        let codes = answer.map_err(|error| Lost(error.to_string()))?.return_codes;
        if !codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            // Events still flow; an administrator of the broker has to let us read requests.
            warn!(?codes, filter = self.topics.requests(), "the MQTT broker gives us no requests");
        }
        self.state(client, self.topics.info(), self.birth.info()).await?;
        self.state(client, self.topics.presence(), session.online()).await
    }

    /// Publishes a retained state and waits until the broker has it.
    async fn state(&self, client: &AsyncClient, topic: String, body: Bytes) -> Result<(), Lost> {
        let options = PublishOptions::at_least_once().retained().properties(json_properties());
        let notice =
            client.publish_tracked(topic.as_str(), body, options).await.map_err(|error| Lost(error.to_string()))?;
        match timeout(PATIENCE, notice.wait_completion_async()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                warn!(topic, %error, "the MQTT broker does not take a state");
                Ok(())
            }
            Err(_) => Err(Lost("no PUBACK for 10 s".to_owned())),
        }
    }

    /// Takes and answers requests until the connection ends or the station stops.
    async fn serve(&self, connection: &mut Connection, stop: &CancellationToken) -> Result<(), Lost> {
        let Connection { client, granted, inbox, pump } = connection;
        // In order, so that a request is given to the ledger and acknowledged in the order of arrival.
        let mut work: FuturesOrdered<BoxFuture<'_, Publish>> = FuturesOrdered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                lost = pump.gone() => return Err(lost),
                Some(done) = work.next() => acknowledge(client, &done),
                Some(request) = inbox.recv(), if work.len() < AT_ONCE => {
                    work.push_back(Box::pin(self.handle(client, *granted, request)));
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

    /// Carries out one request and sees its reply off; gives the request back to be acknowledged.
    async fn handle(&self, client: &AsyncClient, granted: Granted, request: Publish) -> Publish {
        let topic = String::from_utf8_lossy(&request.topic).into_owned();
        let Some(name) = self.topics.command(&topic) else {
            warn!(topic, "a message where no request can be is ignored");
            return request;
        };
        let salutation = Salutation::glean(&request.payload);
        let (address, wrong) = self.address(&name, &request, &salutation);
        let refusal = match wrong {
            _ if request.retain => Some(retained()),
            wrong => wrong,
        };
        let reply = match refusal {
            Some(refusal) => commands::refuse(&self.ledger, &name, &salutation, refusal),
            None => commands::answer(&self.ledger, &name, &request.payload, Transport::Mqtt).await,
        };
        debug!(command = %reply.command_id, name, code = reply.code, "answered over MQTT");
        let mut body = commands::bytes(&reply);
        let room = granted.max_packet.saturating_sub(OVERHEAD + address.size());
        if body.len() > room {
            let refusal = Refusal::new(
                500,
                "reply_too_large",
                format!("a reply of {} bytes; the broker takes {room}", body.len()),
            );
            body = commands::bytes(&commands::refuse(&self.ledger, &name, &salutation, refusal));
        }
        match self.reply(client, address, body).await {
            // Who chose an id may be answered again: the request is given back only when the broker has the reply.
            // Without an id a second delivery would be a second request, so it is given back at once.
            Ok(notice) if salutation.command_id.is_some() => seen_off(&name, notice).await,
            Ok(_) => {}
            Err(lost) => debug!(name, why = %lost, "a reply is not sent"),
        }
        request
    }

    /// The address that the request names, if a reply may go there; else the default, and why.
    fn address(&self, name: &str, request: &Publish, salutation: &Salutation) -> (Address, Option<Refusal>) {
        let properties = request.properties.as_ref();
        let correlation = properties.and_then(|properties| properties.correlation_data.clone());
        let named =
            properties.and_then(|properties| properties.response_topic.as_ref()).or(salutation.reply_to.as_ref());
        let default = self.topics.reply(name);
        match named {
            None => (Address { topic: default, correlation }, None),
            Some(named) => match self.topics.reply_address(named) {
                Ok(()) => (Address { topic: named.clone(), correlation }, None),
                Err(wrong) => {
                    let refusal = Refusal::new(400, "bad_reply_address", wrong.to_string());
                    (Address { topic: default, correlation }, Some(refusal))
                }
            },
        }
    }

    async fn reply(&self, client: &AsyncClient, address: Address, body: Bytes) -> Result<PublishNotice, Lost> {
        let properties = PublishProperties {
            correlation_data: address.correlation,
            message_expiry_interval: Some(REPLY_EXPIRY),
            ..json_properties()
        };
        let options = PublishOptions::at_least_once().properties(properties);
        client.publish_tracked(address.topic, body, options).await.map_err(|error| Lost(error.to_string()))
    }

    /// Says that the station goes, because a DISCONNECT takes the Will away.
    async fn leave(&self, client: &AsyncClient, session: &Session) {
        let goodbye = self.state(client, self.topics.presence(), session.offline(Absence::Shutdown));
        match timeout(LAST_CALL, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => debug!(%why, "the goodbye did not get out"),
            Err(_) => debug!("the goodbye was not acknowledged in time"),
        }
    }
}

impl Address {
    fn size(&self) -> usize {
        self.topic.len() + self.correlation.as_ref().map_or(0, Bytes::len)
    }
}

fn retained() -> Refusal {
    Refusal::new(
        400,
        "retained_request",
        "a retained request would be carried out at every reconnect; send it without retain",
    )
}

fn acknowledge(client: &AsyncClient, request: &Publish) {
    if let Err(error) = client.try_ack(request) {
        debug!(%error, "a request is not acknowledged and will come again");
    }
}

async fn seen_off(name: &str, notice: PublishNotice) {
    match timeout(PATIENCE, notice.wait_completion_async()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(name, %error, "a reply did not reach the broker"),
        Err(_) => warn!(name, "the broker does not acknowledge a reply"),
    }
}

fn json_properties() -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("application/json".to_owned()),
        ..PublishProperties::default()
    }
}

/// The session state that a fresh client has of its own: none. What we have sent at `QoS` 1 and was not acknowledged is
/// sent again from the ledger, so there is nothing to remember, and the broker's half (requests that wait for us) is
/// welcome. Without a store rumqttc refuses to resume a session that another process began.
#[derive(Debug)]
struct Nothing {
    client_id: String,
}

type Done<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for Nothing {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Done<'a, Option<PersistedSession>> {
        Box::pin(std::future::ready(Ok(Some(PersistedSession {
            format_version: 1,
            client_id: self.client_id.clone(),
            clean_start: false,
            session_expiry_interval: Some(SESSION_EXPIRY),
            outgoing_inflight_upper_limit: Some(WINDOW),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Done<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Done<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
