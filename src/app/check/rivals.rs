//! Another DHCP server on the provisioning network: asked for, as a device would.

use crate::app::check::finding::Finding;
use crate::config::Config;
use crate::dhcp::ask::Role;
use crate::dhcp::ether::Ether;
use crate::dhcp::rival;

const SUBJECT: &str = "dhcp";

pub async fn look(config: &Config) -> Vec<Finding> {
    let Some(settings) = &config.dhcp else {
        return vec![Finding::note(
            SUBJECT,
            "network.dhcp.mode is off: another server hands out addresses and boot information",
            "let that server send options 43, 60 and 66 as bootfiles/README.md says, or use mode proxy or server",
        )];
    };
    let asked = async {
        let ether = Ether::open(&settings.interface)?;
        rival::offers(&ether, &settings.interface, settings.port, settings.client_port).await
    };
    let mut others = match asked.await {
        Ok(others) => others,
        Err(error) => {
            let what = format!("cannot look for other DHCP servers on {}: {error}", settings.interface);
            return vec![Finding::note(SUBJECT, what, "run this as root, with the interface up")];
        }
    };
    others.remove(&settings.server);
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    match (names.is_empty(), settings.role) {
        (true, Role::Server) => vec![Finding::ok(SUBJECT, "no other DHCP server offers addresses")],
        (false, Role::Server) => vec![Finding::fault(
            SUBJECT,
            format!("another DHCP server offers addresses on {}: {}", settings.interface, names.join(", ")),
            "switch it off there, or set network.dhcp.mode to proxy so that it hands out the addresses",
        )],
        (true, Role::Proxy) => vec![Finding::fault(
            SUBJECT,
            format!("nobody offers addresses on {}, and this station is a proxy", settings.interface),
            "connect the network of your DHCP server, or set network.dhcp.mode to server",
        )],
        (false, Role::Proxy) => {
            vec![Finding::ok(SUBJECT, format!("addresses come from {}, booting from here", names.join(", ")))]
        }
    }
}
