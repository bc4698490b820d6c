//! The recipe: which image goes onto which storage, and what happens to a device that is already finished.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::firmware::Recipe;
use crate::core::image::Digest;
use crate::core::label::ProjectLabel;
use crate::core::plan::StoragePath;
use crate::core::script::{FileName, Scripts};
use crate::core::text::{is_slug, serde_by_text, slug};
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
        slug(name).map(Self)
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
        if is_slug(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("not a project id [a-z0-9-]{{1,64}}: {text:?}"))
        }
    }
}

serde_by_text!(ProjectId);

/// What happens to a device that any project has already finished and that asks again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// It is refused until `device.authorize` allows one more attempt.
    #[default]
    Refuse,
    /// It is written again each time it asks.
    Allow,
}

/// How a project changes the boot of its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BootSettings")]
pub struct Boot {
    /// Lines that are appended to `config.txt`: printable ASCII, at most 1024 bytes.
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

/// The image of devices whose storage is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizedImage {
    /// Size of the storage in bytes, included.
    pub up_to_bytes: u64,
    /// The image, by the SHA-256 of its uploaded file.
    pub image: Digest,
}

/// A LED at a GPIO of the carrier board: it blinks while the device is worked on, and at the end shows success by
/// `on_success` and failure by the opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusLed {
    pub gpio: Gpio,
    /// The level of the pin that shows success.
    #[serde(default = "yes")]
    pub on_success: bool,
}

const fn yes() -> bool {
    true
}

/// A GPIO of the module: 0 to 57.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gpio(u8);

impl<'de> Deserialize<'de> for Gpio {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            number @ 0..=57 => Ok(Self(u8::try_from(number).unwrap_or_default())),
            number => Err(serde::de::Error::custom(format!("not a GPIO of 0 to 57: {number}"))),
        }
    }
}

impl fmt::Display for Gpio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The recipe: which image goes onto which storage, what happens before and after, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Project {
    pub id: ProjectId,
    /// As the user wrote it.
    pub name: String,
    /// Of every device that none of `sizes` takes.
    pub image: Digest,
    /// By rising size; the first that is large enough is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizedImage>,
    /// LED on the carrier board that shows how it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_led: Option<StatusLed>,
    /// Scripts of the site that run on its devices.
    #[serde(default, skip_serializing_if = "Scripts::is_empty")]
    pub scripts: Scripts,
    /// What was assigned to a device is written into this file of its boot partition, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file: Option<FileName>,
    /// Labels that are printed for its devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<ProjectLabel>,
    /// Where the image is written to.
    #[serde(default)]
    pub storage: StoragePath,
    /// What happens to a device that is finished already.
    #[serde(default)]
    pub again: Again,
    /// What its devices get while they boot, beside the files of the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// EEPROM firmware that its devices get first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Recipe>,
    /// Devices get it; an inactive project waits.
    pub active: bool,
    /// Rises by one with every change; `if_match` compares it.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl Project {
    /// The image for a device with so much storage; its size is not known of storage other than the eMMC.
    pub fn image_for(&self, storage_bytes: Option<u64>) -> Digest {
        let large_enough = |size: u64| self.sizes.iter().find(|sized| size <= sized.up_to_bytes);
        storage_bytes.and_then(large_enough).map_or(self.image, |sized| sized.image)
    }

    /// All that it may put onto a device.
    pub fn images(&self) -> impl Iterator<Item = Digest> {
        std::iter::once(self.image).chain(self.sizes.iter().map(|sized| sized.image))
    }
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
