//! Who may ask for what: three roles, each with all that the one before it may do.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::refusal::Refusal;

/// Ordered: what a role may, a higher one may too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Also commands devices, their sessions, and which projects are active.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("not viewer, operator or admin: {text:?}"))
    }
}

/// The least role of each command. Who adds a command adds its row; one without a row is for admins.
const LEAST: &[(&str, Role)] = &[
    ("project.list", Role::Viewer),
    ("project.get", Role::Viewer),
    ("project.activate", Role::Operator),
    ("project.deactivate", Role::Operator),
    ("project.create", Role::Admin),
    ("project.update", Role::Admin),
    ("project.delete", Role::Admin),
    ("image.list", Role::Viewer),
    ("image.add", Role::Admin),
    ("image.delete", Role::Admin),
    ("firmware.list", Role::Viewer),
    ("firmware.add", Role::Admin),
    ("firmware.delete", Role::Admin),
    ("job.cancel", Role::Admin),
    ("device.get", Role::Viewer),
    ("device.authorize", Role::Operator),
    ("device.abort", Role::Operator),
    ("device.assign", Role::Operator),
    ("device.unassign", Role::Operator),
    ("device.identify", Role::Operator),
    ("script.list", Role::Viewer),
    ("script.put", Role::Admin),
    ("script.delete", Role::Admin),
    ("label.list", Role::Viewer),
    ("label.print", Role::Operator),
    ("label.put", Role::Admin),
    ("label.delete", Role::Admin),
    ("rules.get", Role::Viewer),
    ("rules.test", Role::Viewer),
    ("rules.set", Role::Admin),
    ("station.info", Role::Viewer),
    ("station.drain", Role::Operator),
    ("station.resume", Role::Operator),
    // Consumers mend their gaps by it.
    ("events.replay", Role::Operator),
    ("events.discard", Role::Admin),
    ("device.power_cycle", Role::Operator),
    ("slot.list", Role::Viewer),
    ("slot.power", Role::Operator),
    ("slot.release", Role::Operator),
    ("token.list", Role::Admin),
    ("token.create", Role::Admin),
    ("token.revoke", Role::Admin),
];

pub fn least(command: &str) -> Role {
    LEAST.iter().find(|(name, _)| *name == command).map_or(Role::Admin, |(_, role)| *role)
}

/// Who asks, as far as the station has proof of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub role: Role,
    /// The name of the token that was shown.
    pub token: Option<String>,
}

impl Caller {
    /// Somebody who showed no token: on loopback, on a bus, or the station itself.
    pub const fn nameless(role: Role) -> Self {
        Self { role, token: None }
    }

    pub fn may(&self, command: &str) -> Result<(), Refusal> {
        self.needs(least(command), command)
    }

    /// `deed` names what is asked for, for the message alone.
    pub fn needs(&self, least: Role, deed: &str) -> Result<(), Refusal> {
        if self.role >= least {
            return Ok(());
        }
        Err(Refusal::new(403, "forbidden", format!("{deed} needs the role {least}; this caller has {}", self.role)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::NAMES;

    #[test]
    fn every_command_has_its_row() {
        let missing: Vec<&str> =
            NAMES.into_iter().filter(|name| !LEAST.iter().any(|(listed, _)| listed == name)).collect();
        assert!(missing.is_empty(), "commands without a role: {missing:?}");
    }

    #[test]
    fn a_role_may_what_the_ones_below_it_may() {
        let may = |role, command| Caller::nameless(role).may(command).is_ok();
        assert!(may(Role::Viewer, "project.list") && !may(Role::Viewer, "device.abort"));
        assert!(may(Role::Operator, "project.activate") && !may(Role::Operator, "project.create"));
        assert!(may(Role::Admin, "token.create") && !may(Role::Operator, "token.list"));
        assert!(!may(Role::Operator, "nobody.knows") && may(Role::Admin, "nobody.knows"));
        let refused = Caller::nameless(Role::Viewer).may("device.abort").unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (403, "forbidden"));
    }
}
