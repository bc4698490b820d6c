//! Switches, places and power, as a person writes them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::file::Span;
use crate::core::slot::{SlotName, Source};

/// A switch that is asked by SNMP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedSwitch {
    pub name: String,
    pub address: String,
    #[serde(default)]
    pub version: SnmpVersion,
    pub community_file: Option<PathBuf>,
    pub write_community_file: Option<PathBuf>,
    pub username: Option<String>,
    #[serde(default)]
    pub auth: Authentication,
    pub auth_password_file: Option<PathBuf>,
    #[serde(default)]
    pub privacy: Privacy,
    pub privacy_password_file: Option<PathBuf>,
    #[serde(default = "two_seconds")]
    pub timeout: Span,
    #[serde(default = "two")]
    pub retries: u32,
    #[serde(default)]
    pub uplinks: Vec<String>,
    #[serde(default = "eight")]
    pub uplink_macs: usize,
    pub poe: Option<Poe>,
}

const fn two_seconds() -> Span {
    Span(Duration::from_secs(2))
}

const fn two() -> u32 {
    2
}

const fn eight() -> usize {
    8
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SnmpVersion {
    #[default]
    #[serde(rename = "2c")]
    V2c,
    #[serde(rename = "3")]
    V3,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    Md5,
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privacy {
    Des,
    #[default]
    Aes128,
    Aes256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Poe {
    pub group: u64,
    pub numbering: PoeNumbering,
}

impl Default for Poe {
    fn default() -> Self {
        Self { group: 1, numbering: PoeNumbering::Port }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoeNumbering {
    Port,
    Interface,
}

/// A named place on the line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub name: SlotName,
    pub switch: Option<String>,
    pub port: Option<String>,
    pub circuit: Option<String>,
    pub jumper: Option<String>,
    pub printer: Option<String>,
}

/// How places are told apart, and when one is closed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Places {
    pub order: Vec<Source>,
    pub made: bool,
    pub quarantine_after: Option<u32>,
}

impl Default for Places {
    fn default() -> Self {
        Self { order: vec![Source::Switch, Source::Circuit, Source::Jumper], made: true, quarantine_after: None }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Power {
    pub pause: Span,
    pub automatic: Option<Automatic>,
}

impl Default for Power {
    fn default() -> Self {
        Self { pause: Span(Duration::from_secs(3)), automatic: None }
    }
}

/// Power cycles that nobody asks for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Automatic {
    pub after: Span,
    pub times: u32,
    pub pause: Span,
}

impl Default for Automatic {
    fn default() -> Self {
        Self { after: Span(Duration::from_secs(120)), times: 2, pause: Span(Duration::from_secs(60)) }
    }
}
