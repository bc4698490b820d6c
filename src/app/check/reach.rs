//! The buses: is anyone there, are we let in, may we send, and may we hear.

use crate::app::check::finding::Finding;
use crate::bus::nats::Seen;
use crate::bus::visit::{Heard, Trouble, Unheard};
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
            match mqtt::visit(broker, &config.root, station).await {
                Ok(unheard) => findings.extend(mqtt_rights(&place, &unheard)),
                Err(trouble) => findings.push(told(&place, &trouble)),
            }
        }
    }
    if let Some(server) = &settings.nats {
        let place = format!("NATS at {}", server.url);
        match nats::visit(server, station).await {
            Ok(seen) => findings.extend(nats_rights(&place, &seen)),
            Err(trouble) => findings.push(told(&place, &trouble)),
        }
    }
    findings
}

/// Each subscription that is refused, and whether the rest is well.
fn mqtt_rights(place: &str, unheard: &[Unheard]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !unheard.iter().any(|one| one.what == Heard::Requests) {
        let rest = if unheard.is_empty() { "our subscriptions" } else { "the one to our requests" };
        findings.push(Finding::ok(SUBJECT, format!("{place} takes our login, what we send and {rest}")));
    }
    findings.extend(unheard.iter().map(|Unheard { what, filter, why }| {
        let refused = format!("{place} refuses the subscription to {filter} ({why})");
        // Rights name what is shared, not with whom.
        let topic =
            filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).map_or(&**filter, |(_, topic)| topic);
        let line = format!("`topic read {topic}` below the station's user, as in conf/mosquitto/bootline.acl");
        match what {
            Heard::Requests => Finding::warning(
                SUBJECT,
                format!("{refused}: requests to this station are not heard"),
                format!("allow it: {line}"),
            ),
            Heard::Everyones | Heard::Discovery => Finding::note(
                SUBJECT,
                format!("{refused}: requests to several stations are not heard"),
                format!("leave it if that is meant, or allow it: {line}"),
            ),
            Heard::States => Finding::note(
                SUBJECT,
                format!("{refused}: what the broker keeps of a former life is not put right"),
                format!("allow it: {line}"),
            ),
        }
    }));
    findings
}

fn nats_rights(place: &str, seen: &Seen) -> Vec<Finding> {
    let mut findings = match &seen.stream {
        Err(trouble) => vec![told(place, trouble)],
        Ok(_) if !seen.unheard.is_empty() => Vec::new(),
        Ok(true) => {
            vec![Finding::ok(SUBJECT, format!("{place} takes our login and our subscriptions, and has the stream"))]
        }
        Ok(false) => {
            vec![Finding::ok(
                SUBJECT,
                format!("{place} takes our login and our subscriptions; the stream will be made"),
            )]
        }
    };
    findings.extend(seen.unheard.iter().map(|Unheard { what, filter, why }| {
        let lost = match what {
            Heard::Requests => "requests to this station are not heard",
            Heard::Everyones => "requests to several stations are not heard",
            Heard::Discovery => "`nats micro` does not find this station",
            Heard::States => "states are not read",
        };
        Finding::warning(
            SUBJECT,
            format!("{place}: {why}: {lost}"),
            format!("add \"{filter}\" to what the station's user may subscribe to, as in conf/nats/nats-server.conf"),
        )
    }));
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
