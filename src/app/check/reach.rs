//! The buses: is anyone there, are we let in, and may we send.

use crate::app::check::finding::Finding;
use crate::bus::visit::Trouble;
use crate::bus::{self, mqtt, nats};
use crate::config::Config;

const SUBJECT: &str = "bus";

pub async fn look(config: &Config) -> Vec<Finding> {
    let settings = &config.bus;
    let station = config.core.station.as_str();
    let mut findings = Vec::new();
    match &settings.mqtt {
        bus::Mqtt::Off if settings.nats.is_none() => findings.push(Finding::note(
            SUBJECT,
            "neither MQTT nor NATS is configured",
            "set bus.mqtt or bus.nats if the factory is to be told; REST and WebSocket tell it too",
        )),
        bus::Mqtt::Off => {}
        #[cfg(feature = "embedded-broker")]
        bus::Mqtt::Embedded(broker) => findings.push(Finding::note(
            SUBJECT,
            format!("the embedded MQTT broker serves this machine alone ({})", broker.listen),
            "set bus.mqtt to {url: ..} for a broker that the factory reaches",
        )),
        bus::Mqtt::Broker(broker) => {
            let place = format!("MQTT at {}:{}", broker.host, broker.port);
            findings.push(match mqtt::visit(broker, &config.root, station).await {
                Ok(()) => Finding::ok(SUBJECT, format!("{place} takes our login and what we send")),
                Err(trouble) => told(&place, &trouble),
            });
        }
    }
    if let Some(server) = &settings.nats {
        let place = format!("NATS at {}", server.url);
        findings.push(match nats::visit(server, station).await {
            Ok(true) => Finding::ok(SUBJECT, format!("{place} takes our login and has the stream")),
            Ok(false) => Finding::ok(SUBJECT, format!("{place} takes our login; the stream will be made")),
            Err(trouble) => told(&place, &trouble),
        });
    }
    findings
}

fn told(place: &str, trouble: &Trouble) -> Finding {
    let what = format!("{place}: {trouble}");
    let advice = match trouble {
        // The agent refuses to start over it.
        Trouble::Settings(_) => return Finding::fault(SUBJECT, what, "mend what bus in the configuration names"),
        Trouble::Away(_) => {
            "start it or mend the address; events wait in the journal meanwhile, and provisioning goes on"
        }
        Trouble::Certificate(_) => {
            "ca must be who signed the broker's certificate, which must name the host of the url; cert and key are ours, \
             if it wants to see them"
        }
        Trouble::Login(_) => {
            "the broker does not know this login: compare user and password (or nkey, creds, certificate) of the \
             configuration with its own; events wait in the journal meanwhile"
        }
        Trouble::Rights(_) => {
            "give the station the rights of conf/mosquitto/bootline.acl or conf/nats/nats-server.conf, by its station.id"
        }
    };
    Finding::warning(SUBJECT, what, advice)
}
