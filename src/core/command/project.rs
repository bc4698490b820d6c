//! Requests that make and change projects.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::command::FirmwareWish;
use crate::core::image::Digest;
use crate::core::label::ProjectLabel;
use crate::core::plan::StoragePath;
use crate::core::project::{Again, Boot, ProjectId, StatusLed};
use crate::core::script::{FileName, Scripts};

/// An image is named by its digest, or by a name that only one image has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ImageRef {
    Id(Digest),
    Name(String),
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().map_or(Self::Name(text), Self::Id))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectCreate {
    /// Free text of up to 200 characters; its letters and digits become the id.
    pub name: String,
    /// Of every device that none of `sizes` takes.
    pub image: ImageRef,
    /// Other images for smaller storage; at most 8.
    #[serde(default)]
    pub sizes: Vec<SizedImageRef>,
    /// LED on the carrier board that shows how it goes.
    #[serde(default)]
    pub status_led: Option<StatusLed>,
    /// Scripts of the site, which are there already.
    #[serde(default)]
    pub scripts: Scripts,
    /// What is assigned to a device is written into this file of its boot partition, as JSON.
    #[serde(default)]
    pub data_file: Option<FileName>,
    /// Labels that are printed for its devices; at most 8.
    #[serde(default)]
    pub labels: Vec<ProjectLabel>,
    /// Where the image is written to.
    #[serde(default)]
    pub storage: StoragePath,
    /// What happens to a device that is finished already.
    #[serde(default)]
    pub again: Again,
    /// How the boot of its devices is changed.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// EEPROM firmware that its devices get first.
    pub firmware: Option<FirmwareWish>,
    /// Only `true` is taken: no device passes without a read-back of its medium.
    #[serde(default = "yes")]
    pub verify: bool,
    /// Devices get it at once. Of the projects without rules only one is active: the others step back.
    #[serde(default)]
    pub active: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectUpdate {
    /// Which one. What is left out stays as it is.
    pub project: ProjectId,
    /// Free text; the id stays.
    #[serde(default)]
    pub name: Option<String>,
    /// Of every device that none of `sizes` takes.
    #[serde(default)]
    pub image: Option<ImageRef>,
    /// The whole list.
    #[serde(default)]
    pub sizes: Option<Vec<SizedImageRef>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub status_led: Option<Option<StatusLed>>,
    /// Both lists.
    #[serde(default)]
    pub scripts: Option<Scripts>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub data_file: Option<Option<FileName>>,
    /// The whole list.
    #[serde(default)]
    pub labels: Option<Vec<ProjectLabel>>,
    /// Where the image is written to.
    #[serde(default)]
    pub storage: Option<StoragePath>,
    /// What happens to a device that is finished already.
    #[serde(default)]
    pub again: Option<Again>,
    /// Empty lines take the earlier ones away.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// `null` takes it out of the project.
    #[serde(default, deserialize_with = "given")]
    pub firmware: Option<Option<FirmwareWish>>,
    /// Only `true` is taken.
    #[serde(default = "yes")]
    pub verify: bool,
}

/// What is there is meant, `null` too.
fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

const fn yes() -> bool {
    true
}

/// The image of devices whose storage is no larger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizedImageRef {
    /// Size of the storage in bytes, included.
    pub up_to_bytes: u64,
    /// For such storage.
    pub image: ImageRef,
}
