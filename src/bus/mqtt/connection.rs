//! One connection to an MQTT broker: made once, served by its own task, and thrown away when it ends.
//!
//! rumqttc reconnects by itself and then sends again what it still holds. We do not let it: the journal decides what
//! is sent, so each connection gets a client and an event loop of its own.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{ConnAck, ConnectReturnCode, DisconnectReasonCode, Packet, Publish};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::bus::commands::AT_ONCE;
use crate::bus::transport::Lost;

/// Requests to the event loop that may wait: a window of events and the progress of a full line.
const REQUESTS: usize = 256;
/// Messages from the broker that wait for the desk. `AT_ONCE` places are kept for `QoS` 1, of which the broker may
/// not have more on the way; `QoS` 0 beyond the rest is dropped, which is what `QoS` 0 means.
const INBOX: usize = 64 + AT_ONCE;
/// How long a DISCONNECT may take to get out.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the reason of a broken connection is waited for; if it is not broken, there is none.
const CAUSE: Duration = Duration::from_secs(1);
/// How the reason begins if the broker has turned us away.
pub const REFUSED: &str = "the broker refused us";
const TAKEN_OVER: &str = "another client with the same id took over: is there a second station of this name?";

pub struct Connection {
    pub client: AsyncClient,
    pub granted: Granted,
    pub inbox: mpsc::Receiver<Publish>,
    pub pump: Pump,
}

/// What the broker said when it took us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How many unacknowledged messages it takes.
    pub receive_maximum: u16,
    /// The largest packet that it takes.
    pub max_packet: usize,
    /// Whether it has shared subscriptions.
    pub shared: bool,
}

/// The task that polls the event loop. Dropping it ends the connection without a word.
pub struct Pump {
    task: JoinSet<Lost>,
    /// Why it has ended.
    ended: Option<Lost>,
}

impl Connection {
    pub async fn open(options: MqttOptions) -> Result<Self, Lost> {
        let (client, events) = AsyncClient::builder(options).capacity(REQUESTS).build();
        let (granted, answer) = oneshot::channel();
        let (messages, inbox) = mpsc::channel(INBOX);
        let mut tasks = JoinSet::new();
        tasks.spawn(poll(events, granted, messages));
        let mut pump = Pump { task: tasks, ended: None };
        match answer.await {
            Ok(granted) => Ok(Self { client, granted, inbox, pump }),
            Err(_) => Err(pump.gone().await),
        }
    }

    /// Says DISCONNECT, so that the Will is not sent, and waits until it is out.
    pub async fn close(mut self) {
        let farewell = async {
            self.client.disconnect_with_timeout(FAREWELL).await.ok();
            self.pump.gone().await
        };
        if let Err(error) = timeout(FAREWELL, farewell).await {
            debug!(%error, "the broker was left without a goodbye");
        }
    }
}

impl Pump {
    /// Waits for the end of the connection and says why it ended. Cancel-safe.
    pub async fn gone(&mut self) -> Lost {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let lost = match self.task.join_next().await {
            Some(Ok(lost)) => lost,
            Some(Err(error)) => Lost(format!("the connection's task ended: {error}")),
            None => Lost("the connection is closed".to_owned()),
        };
        self.ended.insert(lost).clone()
    }

    /// What a broken connection looks like from where it was used says less than why it broke.
    pub async fn cause(&mut self, seen: Lost) -> Lost {
        timeout(CAUSE, self.gone()).await.unwrap_or(seen)
    }
}

/// Polls to the end of the connection. `poll` is never cancelled: rumqttc does not promise that it may be.
async fn poll(mut events: EventLoop, granted: oneshot::Sender<Granted>, messages: mpsc::Sender<Publish>) -> Lost {
    let mut granted = Some(granted);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                if let Some(granted) = granted.take() {
                    // Nobody waits any more when the station stops at this moment; then the task is aborted.
                    granted.send(Granted::from(&answer)).ok();
                }
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                if message.qos == QoS::AtMostOnce && messages.capacity() <= AT_ONCE {
                    debug!("a message of QoS 0 is dropped: too many wait");
                } else if messages.try_send(message).is_err() {
                    return Lost("the broker sent more than it was allowed to".to_owned());
                }
            }
            Ok(_) => {}
            Err(error) => return Lost(reason(&error)),
        }
    }
}

impl From<&ConnAck> for Granted {
    fn from(answer: &ConnAck) -> Self {
        let properties = answer.properties.as_ref();
        let max_packet = properties.and_then(|properties| properties.max_packet_size);
        Self {
            receive_maximum: properties.and_then(|properties| properties.receive_max).unwrap_or(u16::MAX),
            max_packet: max_packet.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX),
            shared: properties.and_then(|properties| properties.shared_subscription_available) != Some(0),
        }
    }
}

/// Whether a connection was lost to another client of the same id.
pub fn is_takeover(lost: &Lost) -> bool {
    lost.0 == TAKEN_OVER
}

/// What an operator can act on.
fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion,
        ) => "the broker does not speak MQTT 5 (the MQTT port of nats-server does not; use bus.nats)".to_owned(),
        ConnectionError::ConnectionRefused(code) => format!("{REFUSED}: {code:?}"),
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => TAKEN_OVER.to_owned(),
        ConnectionError::RequestsDone => "the connection is closed".to_owned(),
        error => error.to_string(),
    }
}
