//! A visit to an MQTT broker: does it take our login, may we send, and may we hear.

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, RetainForwardRule, SubscribeReasonCode};
use rumqttc::{AsyncClient, PublishNotice, PublishOptions, PublishResult, SubscribeFilterInput};

use crate::bus::mqtt::Settings;
use crate::bus::mqtt::connection::{Connection, Granted, REFUSED};
use crate::bus::topic::Topics;
use crate::bus::transport::Lost;
use crate::bus::visit::{Heard, Trouble, Unheard, in_time, is_about_certificates};

/// Sends one message that means nothing to a telemetry topic of the station's own, subscribes to what the station
/// subscribes to, and waits for what the broker says. Gives what we would not hear.
///
/// mosquitto says yes to every subscription under an `acl_file` and then sends nothing; other brokers, and its plugin
/// for dynamic security, tell.
pub async fn visit(settings: &Settings, root: &str, station: &str) -> Result<Vec<Unheard>, Trouble> {
    let topics = Topics::new(root, station).map_err(|error| Trouble::Settings(error.to_string()))?;
    settings.check().map_err(|error| Trouble::Settings(error.to_string()))?;
    in_time(async {
        let mut options = settings.options(&format!("{station}-check")).await.map_err(sorted)?;
        options.set_clean_start(true);
        let mut connection = Connection::open(options).await.map_err(sorted)?;
        // A broker that hangs up over what we ask says more by that.
        let answer = match ask(&connection.client, connection.granted, &topics).await {
            Err(Trouble::Away(why)) => Err(sorted(connection.pump.cause(Lost(why)).await)),
            other => other,
        };
        connection.close().await;
        answer
    })
    .await
}

async fn ask(client: &AsyncClient, granted: Granted, topics: &Topics) -> Result<Vec<Unheard>, Trouble> {
    let topic = topics.trial();
    let sent = client.publish_tracked(topic.clone(), "{}", PublishOptions::at_least_once()).await;
    taken(sent.map_err(|error| away(&error))?, &topic).await?;
    hear(client, granted, topics).await
}

async fn taken(notice: PublishNotice, topic: &str) -> Result<(), Trouble> {
    match notice.wait_async().await {
        Ok(PublishResult::Qos1(ack)) => match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
            PubAckReason::NotAuthorized => Err(Trouble::Rights(format!("not authorized to publish to {topic}"))),
            other => Err(Trouble::Rights(format!("it answers {other:?} to a message to {topic}"))),
        },
        Ok(other) => Err(Trouble::Away(format!("it answers {other:?}"))),
        Err(error) => Err(away(&error)),
    }
}

async fn hear(client: &AsyncClient, granted: Granted, topics: &Topics) -> Result<Vec<Unheard>, Trouble> {
    // What the station subscribes to, and what is asked for in its place.
    let mut wanted: Vec<_> = [
        (Heard::Requests, topics.requests()),
        (Heard::Everyones, topics.all_requests()),
        (Heard::States, topics.presence()),
        (Heard::States, topics.projects()),
    ]
    .into_iter()
    .map(|(what, filter)| (what, filter.clone(), filter))
    .collect();
    if granted.shared {
        wanted.push((Heard::Everyones, topics.any_requests(), topics.any_trial()));
    }
    // What the broker has stored is not wanted.
    let filters: Vec<_> = wanted
        .iter()
        .map(|(_, _, asked)| {
            SubscribeFilterInput::new(asked.clone(), QoS::AtLeastOnce).retain_forward_rule(RetainForwardRule::Never)
        })
        .collect();
    let notice = client.subscribe_many_tracked(filters).await.map_err(|error| away(&error))?;
    let codes = notice.wait_async().await.map_err(|error| away(&error))?.return_codes;
    let refused = wanted.into_iter().zip(codes).filter_map(|((what, filter, _), code)| match code {
        SubscribeReasonCode::Success(_) => None,
        code => Some(Unheard { what, filter, why: format!("{code:?}") }),
    });
    Ok(refused.collect())
}

fn away(error: &dyn std::error::Error) -> Trouble {
    Trouble::Away(error.to_string())
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
