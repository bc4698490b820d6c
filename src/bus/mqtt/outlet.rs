//! Events and progress to an MQTT broker: the client `{station}-evt`.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::FuturesOrdered;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, Publish, PublishProperties};
use rumqttc::{AsyncClient, PublishNotice, PublishNoticeError, PublishOptions, PublishResult};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::bus::mqtt::Settings;
use crate::bus::mqtt::audience::{Audience, Turn};
use crate::bus::mqtt::connection::Connection;
use crate::bus::progress::Progress;
use crate::bus::topic::Topics;
use crate::bus::transport::{Fate, Lost, Terms, Transport, Verdict};
use crate::core::observation::Observation;
use crate::core::view::Telemetry;
use crate::ledger::Recorded;

/// Events on the way at once; mosquitto grants 20 unless told otherwise.
const WINDOW: u16 = 16;
/// How long a full queue to the event loop may stay full.
const STALLED: Duration = Duration::from_secs(10);
/// After which nobody wants to see a progress any more, in seconds.
const PROGRESS_EXPIRY: u32 = 10;
/// The bytes of a packet that rumqttc counts only once it has given it an id.
const PACKET_ID: usize = 2;
const NO_CONSUMER: &str = "bus.no_consumer";

pub struct Outlet {
    settings: Settings,
    client_id: String,
    topics: Topics,
    /// Nothing is sent before the desk has announced the station.
    born: watch::Receiver<bool>,
    /// The client of the living connection, for progress.
    link: watch::Sender<Option<AsyncClient>>,
    /// Cancelled when there is a second station of this name.
    barred: CancellationToken,
    audience: Audience,
    alarms: mpsc::Sender<Observation>,
    open: Option<Open>,
}

/// What the outlet shares with the rest of the room.
pub struct Surroundings {
    pub born: watch::Receiver<bool>,
    pub barred: CancellationToken,
    pub alarms: mpsc::Sender<Observation>,
}

struct Open {
    connection: Connection,
    /// Acknowledgements in the order of the events.
    verdicts: FuturesOrdered<BoxFuture<'static, Result<Judged, Lost>>>,
}

/// What the broker has said to one event.
struct Judged {
    verdict: Verdict,
    /// Whether anybody takes it; only the broker's yes says that.
    taken: Option<bool>,
}

impl Outlet {
    pub fn new(settings: Settings, station: &str, topics: Topics, around: Surroundings) -> Self {
        let client_id = format!("{station}-evt");
        let Surroundings { born, barred, alarms } = around;
        let (link, audience) = (watch::Sender::new(None), Audience::default());
        Self { settings, client_id, topics, born, link, barred, audience, alarms, open: None }
    }

    /// Says when nobody takes events any more, and when somebody does again.
    fn attend(&mut self, taken: bool) {
        let alarm = match self.audience.note(taken, Instant::now()) {
            None => return,
            Some(Turn::Left) => Observation::AlarmRaised {
                code: NO_CONSUMER.to_owned(),
                detail: "the MQTT broker says that nobody takes the events, not even a client that is away".to_owned(),
            },
            Some(Turn::Came) => Observation::AlarmCleared { code: NO_CONSUMER.to_owned() },
        };
        if let Err(error) = self.alarms.try_send(alarm) {
            debug!(%error, "an alarm is not written down");
        }
    }

    pub fn link(&self) -> watch::Receiver<Option<AsyncClient>> {
        self.link.subscribe()
    }
}

impl Transport for Outlet {
    async fn connect(&mut self) -> Result<Terms, Lost> {
        if self.barred.is_cancelled() {
            // The relay gives up waiting when the station stops.
            std::future::pending::<()>().await;
        }
        if self.born.wait_for(|born| *born).await.is_err() {
            return Err(Lost("the station is stopping".to_owned()));
        }
        let mut options = self.settings.options(&self.client_id).await?;
        options.set_clean_start(true).set_outgoing_inflight_upper_limit(WINDOW);
        let connection = Connection::open(options).await?;
        let window = usize::from(WINDOW.min(connection.granted.receive_maximum));
        self.link.send_replace(Some(connection.client.clone()));
        self.open = Some(Open { connection, verdicts: FuturesOrdered::new() });
        Ok(Terms { window })
    }

    async fn publish(&mut self, event: &Recorded) -> Result<(), Lost> {
        let Some(open) = &mut self.open else {
            return Err(Lost("not connected".to_owned()));
        };
        let seq = event.seq;
        let topic = self.topics.event(&event.kind, &event.subject);
        let properties = event_properties(event);
        // rumqttc would take a packet that is too large, fail to write it, and lose the connection over it.
        let sketch = Publish::new(topic.as_str(), QoS::AtLeastOnce, event.body.clone(), Some(properties.clone()));
        let (size, limit) = (sketch.size() + PACKET_ID, open.connection.granted.max_packet);
        if size > limit {
            let fate = Fate::Unfit(format!("a packet of {size} bytes; the broker takes {limit}"));
            open.verdicts.push_back(ready(Ok(Judged { verdict: Verdict { seq, fate }, taken: None })).boxed());
            return Ok(());
        }
        let options = PublishOptions::at_least_once().properties(properties);
        let handed = open.connection.client.publish_tracked(topic, event.body.clone(), options);
        match timeout(STALLED, handed).await {
            Ok(Ok(notice)) => {
                open.verdicts.push_back(judged(seq, notice).boxed());
                Ok(())
            }
            Ok(Err(_)) => Err(open.connection.pump.gone().await),
            Err(_) => Err(Lost("the connection takes nothing".to_owned())),
        }
    }

    async fn verdict(&mut self) -> Result<Verdict, Lost> {
        let Some(open) = &mut self.open else {
            return Err(Lost("not connected".to_owned()));
        };
        let Open { connection, verdicts } = open;
        let Judged { verdict, taken } = tokio::select! {
            Some(judged) = verdicts.next() => judged?,
            lost = connection.pump.gone() => return Err(lost),
            () = self.barred.cancelled() => return Err(Lost("another station of this name is there".to_owned())),
        };
        if let Some(taken) = taken {
            self.attend(taken);
            if !taken && self.settings.require_consumer {
                return Err(Lost("nobody takes the events; they wait (bus.mqtt.require_consumer)".to_owned()));
            }
        }
        Ok(verdict)
    }

    async fn close(&mut self) {
        self.link.send_replace(None);
        if let Some(open) = self.open.take() {
            open.connection.close().await;
        }
    }
}

/// Waits for the PUBACK of one event.
async fn judged(seq: u64, notice: PublishNotice) -> Result<Judged, Lost> {
    let (fate, taken) = match notice.wait_async().await {
        Ok(PublishResult::Qos1(ack)) => (fate(ack.reason)?, taken(ack.reason)),
        Ok(other) => return Err(Lost(format!("the broker answered {other:?}"))),
        Err(PublishNoticeError::Recv) => return Err(Lost("the connection is gone".to_owned())),
        Err(error) => return Err(Lost(error.to_string())),
    };
    Ok(Judged { verdict: Verdict { seq, fate }, taken })
}

const fn taken(reason: PubAckReason) -> Option<bool> {
    match reason {
        PubAckReason::Success => Some(true),
        PubAckReason::NoMatchingSubscribers => Some(false),
        _ => None,
    }
}

fn fate(reason: PubAckReason) -> Result<Fate, Lost> {
    match reason {
        // Nobody listens, not even a durable session; the broker has done its part.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(Fate::Taken),
        PubAckReason::NotAuthorized | PubAckReason::QuotaExceeded => Ok(Fate::Refused(format!("{reason:?}"))),
        PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => Ok(Fate::Unfit(format!("{reason:?}"))),
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse => Err(Lost(format!("the broker answered {reason:?}"))),
    }
}

/// The CloudEvents binding of MQTT 5 in structured mode, with copies of what a reader filters by.
fn event_properties(event: &Recorded) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("application/cloudevents+json; charset=utf-8".to_owned()),
        user_properties: vec![
            ("type".to_owned(), format!("io.bootline.{}.v1", event.name)),
            ("id".to_owned(), event.id.to_string()),
            ("sequence".to_owned(), format!("{:020}", event.seq)),
        ],
        ..PublishProperties::default()
    }
}

/// Publishes progress while there is a connection; what finds none is gone.
pub async fn telemetry(
    mut progress: Progress,
    topics: Topics,
    link: watch::Receiver<Option<AsyncClient>>,
    stop: CancellationToken,
) {
    while let Some(Some(reports)) = stop.run_until_cancelled(progress.next()).await {
        let Some(client) = link.borrow().clone() else {
            continue;
        };
        for report in &reports {
            publish_report(&client, &topics, report);
        }
    }
}

fn publish_report(client: &AsyncClient, topics: &Topics, report: &Telemetry) {
    let body = serde_json::to_vec(report).expect("a report is flat JSON");
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("application/json".to_owned()),
        message_expiry_interval: Some(PROGRESS_EXPIRY),
        ..PublishProperties::default()
    };
    let options = PublishOptions::at_most_once().properties(properties);
    if let Err(error) = client.try_publish(topics.telemetry(report.mac), body, options) {
        debug!(mac = %report.mac, %error, "a progress is dropped");
    }
}
