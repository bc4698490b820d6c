//! Under which name replies hold a thing or a list of things. Real traffic is checked against them.

use schemars::JsonSchema;

use crate::core::firmware::Firmware;
use crate::core::image::Image;
use crate::core::label::Label;
use crate::core::project::Project;
use crate::core::script::Script;
use crate::core::shown::{JobShown, ListedImage, SlotShown};
use crate::core::token::TokenShown;

/// Stands alone under this name.
pub trait OneOf: JsonSchema {
    const FIELD: &'static str;
}

/// Stands in a list under this name.
pub trait ListOf: JsonSchema {
    const FIELD: &'static str;
}

impl OneOf for Project {
    const FIELD: &'static str = "project";
}

impl OneOf for Image {
    const FIELD: &'static str = "image";
}

impl OneOf for Firmware {
    const FIELD: &'static str = "firmware";
}

impl OneOf for Script {
    const FIELD: &'static str = "script";
}

impl OneOf for Label {
    const FIELD: &'static str = "label";
}

impl OneOf for JobShown {
    const FIELD: &'static str = "job";
}

impl ListOf for Project {
    const FIELD: &'static str = "projects";
}

impl ListOf for ListedImage {
    const FIELD: &'static str = "images";
}

impl ListOf for Firmware {
    const FIELD: &'static str = "firmware";
}

impl ListOf for Script {
    const FIELD: &'static str = "scripts";
}

impl OneOf for TokenShown {
    const FIELD: &'static str = "token";
}

impl ListOf for TokenShown {
    const FIELD: &'static str = "tokens";
}

impl ListOf for Label {
    const FIELD: &'static str = "labels";
}

impl ListOf for SlotShown {
    const FIELD: &'static str = "slots";
}
