//! The managed switches: does each answer by its login.

use futures_util::future::join_all;

use crate::app::check::finding::Finding;
use crate::switches::{Settings, Switch, greet};

const SUBJECT: &str = "switches";

pub async fn look(settings: &Settings) -> Vec<Finding> {
    join_all(settings.switches.iter().map(ask)).await
}

async fn ask(switch: &Switch) -> Finding {
    let Switch { name, access, .. } = switch;
    match greet(switch).await {
        Ok(Some(called)) => Finding::ok(SUBJECT, format!("{name} at {} answers as {called:?}", access.address)),
        Ok(None) => Finding::ok(SUBJECT, format!("{name} at {} answers", access.address)),
        Err(fault) => Finding::warning(
            SUBJECT,
            format!("{name}: {fault}"),
            "mend its address or login, or let it answer SNMP to this station; devices boot meanwhile, and nobody knows at \
             which port (bootline switch test shows all that it tells)",
        ),
    }
}
