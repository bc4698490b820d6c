//! Tokens of the operator side: each has a name and a role, and is known here by its hash alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::image::Digest;
use crate::core::role::Role;
use crate::core::text::{is_segment, serde_by_text};
use crate::core::time::Timestamp;

/// `[A-Za-z0-9_-]{1,64}`; it is the actor in what its bearer asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(String);

impl TokenName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TokenName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TokenName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_segment(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("not a name of a token [A-Za-z0-9_-]{{1,64}}: {text:?}")),
        }
    }
}

serde_by_text!(TokenName);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    pub name: TokenName,
    pub role: Role,
    /// Of the text that its bearer shows. That has 256 bits of chance in it, so a plain hash cannot be turned back.
    pub sha256: Digest,
    pub created_at: Timestamp,
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    /// To the minute: it is written down once a minute, not with each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

impl AccessToken {
    pub const fn is_valid(&self) -> bool {
        self.revoked_at.is_none()
    }

    /// Without its hash.
    pub fn shown(&self) -> TokenShown {
        TokenShown {
            name: self.name.clone(),
            role: self.role,
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            revoked_at: self.revoked_at,
            revoked_by: self.revoked_by.clone(),
            last_used: self.last_used,
        }
    }
}

/// A token without its hash.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub struct TokenShown {
    pub name: TokenName,
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was taken back; null while it is good.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// To the minute; null before the first time.
    pub last_used: Option<Timestamp>,
}

/// The hash is made by whoever makes the token: the token itself never travels with a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    pub name: TokenName,
    pub role: Role,
    /// Of the text that its bearer shows.
    pub sha256: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRevoke {
    pub token: TokenName,
}
