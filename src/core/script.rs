//! A script of the site: shell that runs on a device before or after its medium is written, shared between projects;
//! and what a device is told of itself, for scripts to use.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::text::{is_slug, serde_by_text, slug};
use crate::core::time::Timestamp;

/// A slug `[a-z0-9-]{1,64}` made from the script's free name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptId(String);

impl ScriptId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn from_name(name: &str) -> Option<Self> {
        slug(name).map(Self)
    }
}

impl fmt::Display for ScriptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ScriptId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_slug(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("not a script id [a-z0-9-]{{1,64}}: {text:?}"))
        }
    }
}

/// What a script that does not end with 0 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The session fails.
    #[default]
    Fail,
    /// It becomes a warning.
    Warn,
}

/// How a script is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manner {
    /// What an end other than 0 means.
    pub on_failure: OnFailure,
    /// Beside what comes after it; waited for at the end of the session.
    pub background: bool,
    /// After so many seconds it is ended.
    pub timeout_s: u32,
}

/// One script without its text, which the ledger keeps by id and revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Script {
    pub id: ScriptId,
    /// As the user wrote it.
    pub name: String,
    /// Of its text, in bytes.
    pub size_bytes: u64,
    #[serde(flatten)]
    pub manner: Manner,
    /// Rises by one each time that it is put.
    pub revision: u64,
    /// When it was put last.
    pub updated_at: Timestamp,
}

/// In the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ScriptsOf{S}")]
pub struct Scripts<S = ScriptId> {
    /// Before the medium is touched.
    #[serde(default = "Vec::<S>::new", skip_serializing_if = "Vec::is_empty")]
    pub preinstall: Vec<S>,
    /// After the medium was written and read back.
    #[serde(default = "Vec::<S>::new", skip_serializing_if = "Vec::is_empty")]
    pub postinstall: Vec<S>,
}

impl<S> Default for Scripts<S> {
    fn default() -> Self {
        Self { preinstall: Vec::new(), postinstall: Vec::new() }
    }
}

impl<S> Scripts<S> {
    pub fn is_empty(&self) -> bool {
        self.preinstall.is_empty() && self.postinstall.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = &S> {
        self.preinstall.iter().chain(&self.postinstall)
    }
}

/// A script as it was when the session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedScript {
    pub script: ScriptId,
    /// Of its text, as it was then.
    pub revision: u64,
    #[serde(flatten)]
    pub manner: Manner,
}

/// How one ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScriptRun {
    pub script: ScriptId,
    /// Its exit code.
    pub exit: u8,
    /// In seconds.
    pub duration_s: u64,
    /// It was ended because it took too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

/// The name of a variable of a device: `[A-Z][A-Z0-9_]{0,63}`, and none that a shell or our own script lives by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

const RESERVED: [&str; 22] = [
    "PATH", "IFS", "ENV", "HOME", "PWD", "OLDPWD", "SHELL", "TERM", "USER", "LC_ALL", "LANG", "TMPDIR", "OPTIND",
    "PS1", "PS2", "PS4", "SERIAL", "SERVER", "STORAGE", "PART1", "PART2", "TOKEN",
];

impl VariableName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VariableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_uppercase());
        if !(1..=64).contains(&text.len()) || !letters || !begins {
            return Err(format!("not the name of a variable [A-Z][A-Z0-9_]{{0,63}}: {text:?}"));
        }
        if RESERVED.contains(&text) || text.starts_with("LD_") {
            return Err(format!("{text} has a meaning of its own; take another name"));
        }
        Ok(Self(text.to_owned()))
    }
}

serde_by_text!(ScriptId, VariableName);

pub type Variables = BTreeMap<VariableName, String>;

/// What the ERP says of one device: open values, which events show, and secret ones, which nothing shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceData {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: Variables,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: Variables,
}

impl fmt::Debug for DeviceData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceData")
            .field("variables", &self.variables)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl DeviceData {
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.secrets.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = (&VariableName, &str)> {
        self.variables.iter().chain(&self.secrets).map(|(name, value)| (name, value.as_str()))
    }
}

/// The name of a file in the root of the boot partition: `[A-Za-z0-9._-]{1,64}`, no leading dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let fits = (1..=64).contains(&text.len()) && letters && !text.starts_with(['.', '-']);
        if fits { Ok(Self(text.to_owned())) } else { Err(format!("not a plain file name: {text:?}")) }
    }
}

serde_by_text!(FileName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_a_shell_lives_by_is_refused() {
        for text in ["PRODUCT_SERIAL", "A", "X2"] {
            assert!(text.parse::<VariableName>().is_ok(), "{text}");
        }
        for text in ["", "path", "2X", "PATH", "LD_PRELOAD", "A-B", "A B", "A;reboot", "TOKEN", "_X"] {
            assert!(text.parse::<VariableName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_name_leads_nowhere() {
        assert!("bootline.json".parse::<FileName>().is_ok());
        for text in ["", ".", "..", "../x", "a/b", "-rf", ".hidden", "a b"] {
            assert!(text.parse::<FileName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_in_what_is_printed() {
        let data = DeviceData {
            variables: BTreeMap::from([("HOSTNAME".parse().unwrap(), "gw-7".to_owned())]),
            secrets: BTreeMap::from([("KEY".parse().unwrap(), "hunter2".to_owned())]),
        };
        let printed = format!("{data:?}");
        assert!(printed.contains("gw-7") && printed.contains("KEY") && !printed.contains("hunter2"), "{printed}");
    }
}
