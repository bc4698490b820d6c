//! Requests that come in: read, carried out, answered where the requester waits.

use bytes::Bytes;
use rumqttc::AsyncClient;
use rumqttc::mqttbytes::v5::Publish;
use tracing::{debug, warn};

use crate::bus::commands;
use crate::bus::mqtt::connection::Granted;
use crate::bus::mqtt::letter::{self, Letter};
use crate::bus::topic::{Audience, Topics};
use crate::core::command::{ReplyTo, Salutation, Transport, is_read};
use crate::core::refusal::Refusal;
use crate::ledger::Ledger;

/// Serves the requests of one connection.
#[derive(Clone, Copy)]
pub struct Counter<'a> {
    pub client: &'a AsyncClient,
    pub granted: Granted,
    pub ledger: &'a Ledger,
    pub topics: &'a Topics,
}

/// Where a reply goes.
struct Address {
    topic: String,
    correlation: Option<Bytes>,
}

impl Counter<'_> {
    /// Carries out one request and sees its reply off.
    pub async fn serve(self, audience: Audience, name: &str, request: &Publish) {
        let salutation = Salutation::glean(&request.payload);
        let (address, wrong) = self.address(name, request, &salutation);
        let refusal = match wrong {
            _ if request.retain => Some(retained()),
            None if audience == Audience::All && !is_read(name) => Some(reads_only(name)),
            wrong => wrong,
        };
        let reply = match refusal {
            Some(refusal) => commands::refuse(self.ledger, name, &salutation, refusal),
            None => {
                let correlation = address.correlation.as_ref().map(|bytes| bytes.to_vec()).unwrap_or_default();
                let back = ReplyTo { address: address.topic.clone(), correlation };
                commands::answer_to(self.ledger, name, &request.payload, Transport::Mqtt, Some(back)).await
            }
        };
        debug!(command = %reply.command_id, name, code = reply.code, "answered over MQTT");
        let mut letter =
            Letter { topic: address.topic, correlation: address.correlation, body: commands::bytes(&reply) };
        let room = self.granted.max_packet.saturating_sub(letter.envelope());
        if letter.body.len() > room {
            let refusal = Refusal::new(
                500,
                "reply_too_large",
                format!("a reply of {} bytes; the broker takes {room}", letter.body.len()),
            );
            letter.body = commands::bytes(&commands::refuse(self.ledger, name, &salutation, refusal));
        }
        match letter::reply(self.client, letter).await {
            // Who chose an id may be answered again: the request is given back only when the broker has the reply.
            // Without an id a second delivery would be a second request, so it is given back at once.
            Ok(notice) if salutation.command_id.is_some() => match letter::seen_off(notice).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(name, %error, "a reply did not reach the broker"),
                Err(why) => warn!(name, %why, "a reply did not reach the broker"),
            },
            Ok(_) => {}
            Err(why) => debug!(name, %why, "a reply is not sent"),
        }
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
}

fn retained() -> Refusal {
    Refusal::new(
        400,
        "retained_request",
        "a retained request would be carried out at every reconnect; send it without retain",
    )
}

fn reads_only(name: &str) -> Refusal {
    Refusal::new(403, "forbidden", format!("{name} changes something; all stations at once are only asked for reads"))
}
