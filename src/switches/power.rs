//! Power over Ethernet of one port (RFC 3621).

use crate::switches::client::{Client, Fault};
use crate::switches::lookup::Port;
use crate::switches::oid::{POE_ADMIN, row};

const ON: i64 = 1;
const OFF: i64 = 2;

/// How a switch numbers its ports in `pethPsePortTable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// By bridge port.
    Port,
    /// By interface.
    Interface,
}

/// Where the power of a port is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power {
    pub group: u64,
    pub numbering: Numbering,
}

/// Switches it and reads it back.
pub async fn switch(client: &mut Client, power: Power, port: &Port, on: bool) -> Result<(), Fault> {
    let number = match power.numbering {
        Numbering::Port => port.number,
        Numbering::Interface => port.if_index.unwrap_or(port.number),
    };
    client.set(&row(POE_ADMIN, [power.group, number]), if on { ON } else { OFF }).await
}
