//! Messages of the desk at `QoS` 1: states, which the broker keeps, and replies, which it does not.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v5::PublishProperties;
use rumqttc::{AsyncClient, PublishNotice, PublishNoticeError, PublishOptions};
use tokio::time::timeout;
use tracing::warn;

use crate::bus::transport::Lost;

/// How long a reply may wait for its reader, in seconds.
const REPLY_EXPIRY: u32 = 3600;
/// How long the broker may take for an acknowledgement of ours.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What a reply's packet needs besides topic, correlation data and body, rounded up.
const OVERHEAD: usize = 128;

/// A reply with its address.
pub struct Letter {
    pub topic: String,
    pub correlation: Option<Bytes>,
    pub body: Bytes,
}

impl Letter {
    /// What its packet takes without the body.
    pub fn envelope(&self) -> usize {
        OVERHEAD + self.topic.len() + self.correlation.as_ref().map_or(0, Bytes::len)
    }
}

/// Whether a broker takes a state of this size; one that does not would end the connection over it, again and again.
pub fn fits(topic: &str, body: &Bytes, max_packet: usize) -> bool {
    let (bytes, room) = (body.len(), max_packet.saturating_sub(OVERHEAD + topic.len()));
    if bytes > room {
        warn!(topic, bytes, room, "a state is larger than the MQTT broker takes, and is left out");
    }
    bytes <= room
}

/// Publishes a retained state and waits until the broker has it. An empty body takes it away.
pub async fn state(client: &AsyncClient, topic: String, body: Bytes, expiry: Option<Duration>) -> Result<(), Lost> {
    let seconds = expiry.map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX).max(1));
    let properties = PublishProperties { message_expiry_interval: seconds, ..json() };
    let options = PublishOptions::at_least_once().retained().properties(properties);
    let notice = client.publish_tracked(topic.as_str(), body, options).await.map_err(lost)?;
    if let Err(error) = seen_off(notice).await? {
        warn!(topic, %error, "the MQTT broker does not take a state");
    }
    Ok(())
}

/// Hands a reply over; the notice tells what became of it.
pub async fn reply(client: &AsyncClient, letter: Letter) -> Result<PublishNotice, Lost> {
    let properties = PublishProperties {
        correlation_data: letter.correlation,
        message_expiry_interval: Some(REPLY_EXPIRY),
        ..json()
    };
    let options = PublishOptions::at_least_once().properties(properties);
    client.publish_tracked(letter.topic, letter.body, options).await.map_err(lost)
}

/// Waits until the broker has it. The inner error is the broker's no; without a word the connection is dead.
pub async fn seen_off(notice: PublishNotice) -> Result<Result<(), PublishNoticeError>, Lost> {
    match timeout(PATIENCE, notice.wait_completion_async()).await {
        Ok(Err(PublishNoticeError::Recv)) => Err(Lost("the connection is gone".to_owned())),
        Ok(answer) => Ok(answer),
        Err(_) => Err(Lost("no PUBACK for 10 s".to_owned())),
    }
}

pub fn json() -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("application/json".to_owned()),
        ..PublishProperties::default()
    }
}

fn lost(error: rumqttc::ClientError) -> Lost {
    Lost(error.to_string())
}
