//! The buses: is anyone there.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::check::finding::Finding;
use crate::bus;

const SUBJECT: &str = "bus";
const PATIENCE: Duration = Duration::from_secs(3);
const WAITS: &str = "start it or mend the address; events wait in the journal meanwhile, and provisioning goes on";

pub async fn look(settings: &bus::Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &settings.mqtt {
        bus::Mqtt::Off if settings.nats.is_none() => findings.push(Finding::note(
            SUBJECT,
            "neither MQTT nor NATS is configured",
            "set bus.mqtt or bus.nats if the factory is to be told; REST and WebSocket tell it too",
        )),
        bus::Mqtt::Off => {}
        bus::Mqtt::Embedded(broker) => findings.push(Finding::note(
            SUBJECT,
            format!("the embedded MQTT broker serves this machine alone ({})", broker.listen),
            "set bus.mqtt to {url: ..} for a broker that the factory reaches",
        )),
        bus::Mqtt::Broker(broker) => findings.push(knock("MQTT", &format!("{}:{}", broker.host, broker.port)).await),
    }
    if let Some(nats) = &settings.nats {
        let address = nats.url.rsplit_once("://").map_or(nats.url.as_str(), |(_, rest)| rest);
        let address = address.rsplit_once('@').map_or(address, |(_, host)| host).trim_end_matches('/');
        let address = if address.contains(':') { address.to_owned() } else { format!("{address}:4222") };
        findings.push(knock("NATS", &address).await);
    }
    findings
}

async fn knock(what: &str, address: &str) -> Finding {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::ok(SUBJECT, format!("{what} at {address} answers")),
        Ok(Err(error)) => Finding::warning(SUBJECT, format!("{what} at {address}: {error}"), WAITS),
        Err(_) => Finding::warning(SUBJECT, format!("{what} at {address} does not answer within 3 s"), WAITS),
    }
}
