//! What an input is answered with, besides its events.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::core::command::Reply;
use crate::core::device::{Family, Mac, Serial8};
use crate::core::plan::SessionId;
use crate::core::project::ProjectId;
use crate::core::refusal::Refusal;
use crate::core::session::{Session, StepName};
use crate::core::time::Timestamp;

/// What comes back from the core.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Taken down; there is nothing more to say.
    Noted,
    Dhcp(DhcpVerdict),
    /// The session of the device that asked for its script, as it stands after.
    Session(Box<Session>),
    /// There is nothing to do for the device that asked for its script; this is why.
    Refused(Refusal),
    Reply(Box<Reply>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpVerdict {
    /// Not ours to answer, or nothing to do for it.
    Silent,
    /// To a DISCOVER: an OFFER with this address. To a REQUEST: an ACK.
    Lease(Lease),
    /// The address asked for is not this device's.
    Nak,
    /// To an INFORM: options without an address.
    OptionsOnly,
    /// To a DISCOVER: an OFFER without an address, beside that of another server.
    Proxy,
    /// At the port of a boot server: an ACK that says what to load.
    BootServer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub time: Duration,
}

/// Whose address it is: what the boot-file engine needs to know, read without waiting for the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub mac: Mac,
    pub serial8: Option<Serial8>,
    pub family: Option<Family>,
    /// The one that the device would get now.
    pub project: Option<Arc<BootProject>>,
}

/// What of a project counts while a device boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootProject {
    pub id: ProjectId,
    /// Lines for `config.txt`.
    pub config_txt: Option<String>,
}

/// Progress of a running step: at most one a second and device; never stored.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Telemetry {
    /// Version of this message: 1.
    pub v: u8,
    pub mac: Mac,
    pub session: SessionId,
    /// Counts the sessions of this device, from 1.
    pub attempt: u32,
    /// The step that runs.
    pub step: StepName,
    /// Done so far in this step.
    pub bytes: u64,
    /// Of the whole step.
    pub bytes_total: u64,
    /// Of the step, 0 to 100.
    pub percent: u8,
    /// When the device told it.
    pub at: Timestamp,
}
