//! A visit to an MQTT broker: does it take our login, and may we send.

use rumqttc::mqttbytes::v5::PubAckReason;
use rumqttc::{PublishNotice, PublishOptions, PublishResult};

use crate::bus::mqtt::Settings;
use crate::bus::mqtt::connection::{Connection, REFUSED};
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::bus::visit::{Trouble, in_time, is_about_certificates};

/// Sends one message that means nothing to a telemetry topic of the station's own, and waits for what the broker says.
pub async fn visit(settings: &Settings, root: &str, station: &str) -> Result<(), Trouble> {
    let topics = Topics::new(root, station).map_err(|error| Trouble::Settings(error.to_string()))?;
    settings.check().map_err(|error| Trouble::Settings(error.to_string()))?;
    in_time(async {
        let mut options = settings.options(&format!("{station}-check")).await.map_err(sorted)?;
        options.set_clean_start(true);
        let mut connection = Connection::open(options).await.map_err(sorted)?;
        let topic = topics.trial();
        let sent = connection.client.publish_tracked(topic.clone(), "{}", PublishOptions::at_least_once()).await;
        let answer = match sent {
            Ok(notice) => answer(notice, &topic).await,
            Err(error) => Err(Trouble::Away(error.to_string())),
        };
        // A broker that hangs up over the message says more by that.
        let answer = match answer {
            Err(Trouble::Away(why)) => Err(sorted(connection.pump.cause(Lost(why)).await)),
            other => other,
        };
        connection.close().await;
        answer
    })
    .await
}

async fn answer(notice: PublishNotice, topic: &str) -> Result<(), Trouble> {
    match notice.wait_async().await {
        Ok(PublishResult::Qos1(ack)) => match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
            PubAckReason::NotAuthorized => Err(Trouble::Rights(format!("not authorized to publish to {topic}"))),
            other => Err(Trouble::Rights(format!("it answers {other:?} to a message to {topic}"))),
        },
        Ok(other) => Err(Trouble::Away(format!("it answers {other:?}"))),
        Err(error) => Err(Trouble::Away(error.to_string())),
    }
}

fn sorted(lost: Lost) -> Trouble {
    let Lost(why) = lost;
    if why.starts_with(REFUSED) {
        Trouble::Login(why)
    } else if is_about_certificates(&why) {
        Trouble::Certificate(why)
    } else {
        Trouble::Away(why)
    }
}
