//! Which device gets which project. With one active project and no rules: every device gets that one.

use std::collections::BTreeMap;

use crate::core::project::{Project, ProjectId};
use crate::core::refusal::Refusal;

/// The project for a device, or why there is none.
pub fn choose(projects: &BTreeMap<ProjectId, Project>) -> Result<&Project, Refusal> {
    projects.values().find(|project| project.active).ok_or_else(|| {
        Refusal::new(409, "no_project", "no project is active at this station; activate one and power the device again")
    })
}
