//! The demo's client at the broker: hears everything of the station, and asks for things as an ERP would.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, PublishOptions};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cli::demo::station::{ID, MQTT_PORT};

/// What came from the broker.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An event, as `CloudEvents` writes it.
    Event(Value),
    Telemetry(Value),
    Reply {
        correlation: Option<Bytes>,
        body: Value,
    },
    /// Retained states and the requests of this client itself.
    Other,
    /// The connection ended, and why.
    Lost(String),
}

/// A subscriber that has its subscriptions.
#[derive(Debug)]
pub struct Bus {
    client: AsyncClient,
    heard: mpsc::Receiver<Heard>,
    _pump: JoinSet<()>,
}

impl Bus {
    /// Connects and subscribes; fails if there is no broker.
    pub async fn join() -> Result<Self> {
        let mut options = MqttOptions::new("bootline-demo", ("127.0.0.1", MQTT_PORT));
        options.set_keep_alive(20).set_max_packet_size(Some(MAX_PACKET));
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        for filter in [format!("bootline/v1/{ID}/#"), format!("{INBOX}/#")] {
            client.subscribe(filter, QoS::AtLeastOnce).await.context("cannot subscribe")?;
        }
        let mut granted = 0;
        // Full when the screen is slow: then the broker waits, as it would for any slow subscriber.
        let (sender, heard) = mpsc::channel(1024);
        while granted < 2 {
            match events.poll().await.context("no broker")? {
                Event::Incoming(Packet::SubAck(_)) => granted += 1,
                Event::Incoming(Packet::Publish(message)) => {
                    sender.try_send(read(&message)).context("too many retained messages")?
                }
                _ => {}
            }
        }
        let mut pump = JoinSet::new();
        pump.spawn(poll(events, sender));
        Ok(Self { client, heard, _pump: pump })
    }

    /// The next message. Cancel-safe.
    pub async fn next(&mut self) -> Result<Heard> {
        match self.heard.recv().await {
            Some(Heard::Lost(why)) => bail!("the broker is gone: {why}"),
            Some(heard) => Ok(heard),
            None => bail!("the broker is gone"),
        }
    }

    /// Sends a request; the reply comes as [`Heard::Reply`] with the correlation that is returned.
    pub async fn ask(&self, name: &str, params: Value) -> Result<Bytes> {
        let id = Uuid::now_v7().simple().to_string();
        let request =
            json!({"v": 1, "command_id": id, "actor": {"type": "program", "id": "bootline-demo"}, "params": params});
        let correlation = Bytes::from(id);
        let properties = PublishProperties {
            response_topic: Some(format!("{INBOX}/replies")),
            correlation_data: Some(correlation.clone()),
            content_type: Some("application/json".to_owned()),
            ..PublishProperties::default()
        };
        let topic = format!("bootline/v1/{ID}/cmd/{}", name.replace('.', "/"));
        let options = PublishOptions::at_least_once().properties(properties);
        self.client.publish(topic, request.to_string(), options).await.context("cannot send a request")?;
        Ok(correlation)
    }
}

async fn poll(mut events: EventLoop, sender: mpsc::Sender<Heard>) {
    loop {
        let heard = match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(message))) => read(&message),
            Ok(_) => continue,
            Err(error) => Heard::Lost(error.to_string()),
        };
        let over = matches!(heard, Heard::Lost(_));
        if sender.send(heard).await.is_err() || over {
            return;
        }
    }
}

fn read(message: &Publish) -> Heard {
    let topic = String::from_utf8_lossy(&message.topic);
    let body = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
    let own = topic.strip_prefix("bootline/v1/").and_then(|rest| rest.strip_prefix(ID));
    if topic.starts_with(INBOX) {
        let correlation = message.properties.as_ref().and_then(|properties| properties.correlation_data.clone());
        Heard::Reply { correlation, body }
    } else if own.is_some_and(|rest| rest.starts_with("/evt/")) {
        Heard::Event(body)
    } else if own.is_some_and(|rest| rest.starts_with("/telemetry/")) {
        Heard::Telemetry(body)
    } else {
        Heard::Other
    }
}

/// Where replies to this client go.
const INBOX: &str = "bootline/v1/_reply/demo";
/// More than any event or reply; unset, the client takes 10 KiB and goes deaf after a larger one.
const MAX_PACKET: u32 = 256 * 1024;
/// How long a request may wait for its reply.
pub const REPLY_WITHIN: Duration = Duration::from_secs(30);
