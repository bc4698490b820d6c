//! The recipe: which image goes onto which storage, and what happens to a device that is already finished.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::firmware::Recipe;
use crate::core::image::Digest;
use crate::core::plan::StoragePath;
use crate::core::text::serde_by_text;
use crate::core::time::Timestamp;

/// A slug `[a-z0-9-]{1,64}` made from the project's free name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(String);

impl ProjectId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `Hall 3 / Gateway` becomes `hall-3-gateway`; nothing when no letter or digit is left.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut slug = String::new();
        for c in name.chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(64);
        let slug = slug.trim_end_matches('-');
        (!slug.is_empty()).then(|| Self(slug.to_owned()))
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProjectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(format!("not a project id [a-z0-9-]{{1,64}}: {text:?}")) }
    }
}

serde_by_text!(ProjectId);

/// What happens to a device that any project has already finished and that asks again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// It is refused until `device.authorize` allows one more attempt.
    #[default]
    Refuse,
    /// It is written again each time it asks.
    Allow,
}

/// How a project changes the boot of its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    #[serde(default)]
    pub config_txt: ConfigLines,
}

impl Boot {
    /// Nothing where there is nothing to say: so empty lines take earlier ones away.
    pub fn filled(self) -> Option<Self> {
        (!self.config_txt.as_str().is_empty()).then_some(self)
    }
}

/// Lines that are appended to `config.txt`: printable ASCII and newlines, at most 1024 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigLines(String);

impl ConfigLines {
    /// A quarter of what old firmware reads of the whole file.
    const LONGEST: usize = 1024;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ConfigLines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > Self::LONGEST {
            return Err(format!("{} bytes for config.txt; at most {}", text.len(), Self::LONGEST));
        }
        match text.chars().find(|c| !matches!(c, ' '..='~' | '\n')) {
            Some(c) => Err(format!("lines for config.txt are printable ASCII and newlines, not {c:?}")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

serde_by_text!(ConfigLines);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    /// As the user wrote it.
    pub name: String,
    pub image: Digest,
    #[serde(default)]
    pub storage: StoragePath,
    #[serde(default)]
    pub again: Again,
    /// What its devices get while they boot, beside the files of the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Recipe>,
    pub active: bool,
    /// Rises by one with every change; `if_match` compares it.
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_slug() {
        let slug = |name| ProjectId::from_name(name).map(|id| id.to_string());
        assert_eq!(slug("Hall 3 / Gateway").as_deref(), Some("hall-3-gateway"));
        assert_eq!(slug("--a--").as_deref(), Some("a"));
        assert_eq!(slug("../../etc").as_deref(), Some("etc"));
        assert_eq!(slug("ü!"), None);
        assert_eq!(slug(&"x".repeat(100)).map(|s| s.len()), Some(64));
    }

    #[test]
    fn lines_for_config_txt_are_short_and_plain() {
        for good in ["", "dtoverlay=dwc2", "[cm4]\na=1\n\n[all]\n", &"x".repeat(1024)] {
            assert_eq!(good.parse::<ConfigLines>().unwrap().as_str(), good);
        }
        for wrong in ["a\rb", "a\0b", "a\tb", "é", "\x7f", &"x".repeat(1025)] {
            assert!(wrong.parse::<ConfigLines>().is_err(), "{wrong:?}");
        }
    }
}
