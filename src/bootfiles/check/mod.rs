//! What of the boot files is there, missing or unsuitable, for each model.

mod board;
mod cmdline;
mod content;
mod survey;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

use crate::bootfiles::check::board::Board;
use crate::bootfiles::folder::Folder;
use crate::bootfiles::model::Model;
use crate::bootfiles::name::{PROJECTS, set_of};
use crate::bootfiles::{BootFiles, NotServed};
use crate::core::device::Family;
use crate::core::project::ProjectId;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub folder: PathBuf,
    /// What `{server}` becomes.
    pub server: String,
    /// Each model that anything is there for boots, there is one at least, and nothing else is a fault.
    pub ok: bool,
    pub models: Vec<ModelReport>,
    /// Sets, projects, devices: the folders with files of their own.
    pub places: Vec<Place>,
    /// What is about the folder and not about a model.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    pub model: Model,
    pub title: &'static str,
    /// A file of its own is there, so it is meant to boot.
    pub prepared: bool,
    pub boots: bool,
    /// A file of its family is there that no other family has.
    #[serde(skip)]
    marked: bool,
    pub files: Vec<Row>,
    pub findings: Vec<Finding>,
}

/// One thing that the boot needs or may use.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    /// As it was found; else the name that is missing.
    pub file: String,
    /// The folder that it was found in; `""` is the one for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    There,
    /// Part of the program.
    BuiltIn,
    Missing,
    /// There, and no bootloader will take it.
    Unsuitable,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Note,
    /// It may boot, and may not do what is meant.
    Warning,
    /// It will not boot, or not from this station.
    Fault,
}

#[derive(Clone, Debug, Serialize)]
pub struct Place {
    pub folder: String,
    pub files: Vec<String>,
    /// Of a project's folder: how its devices boot, for the models that are prepared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelReport>,
}

impl Finding {
    pub fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into() }
    }
}

/// Looks through the folder as the bootloaders of these models would; `only` limits it to one.
pub fn check(files: &BootFiles, only: Option<Model>) -> Result<Report, NotServed> {
    let folder = Folder::open(&files.folder)?;
    let survey = survey::survey(&folder);
    let mut models = boards(&folder, &files.server, None, only);
    let is_there = |model: &ModelReport| model.prepared || only.is_some();
    models.iter_mut().for_each(|model| model.prepared = is_there(model));
    let mut places = Vec::new();
    let mut findings = survey.findings;
    for (name, files_in) in survey.places {
        let project = name.strip_prefix(PROJECTS).and_then(|rest| rest.strip_prefix('/')).map(str::parse::<ProjectId>);
        let mut place = Place { folder: name, files: files_in, models: Vec::new() };
        match project {
            Some(Ok(_)) => {
                place.models = boards(&folder, &files.server, Some(&place.folder), only);
                place.models.retain(is_there);
            }
            Some(Err(wrong)) => {
                findings.push(Finding::new(Level::Warning, format!("{} is never looked into: {wrong}", place.folder)))
            }
            None => {}
        }
        places.push(place);
    }
    if !models.iter().any(|model| model.prepared) {
        findings.push(Finding::new(Level::Fault, "no model is prepared: no device tree of any board is there"));
    }
    let boots = |models: &[ModelReport]| models.iter().all(|model| model.boots || !model.prepared);
    let ok = boots(&models)
        && places.iter().all(|place| boots(&place.models))
        && findings.iter().all(|finding| finding.level < Level::Fault);
    Ok(Report { folder: files.folder.clone(), server: files.server.clone(), ok, models, places, findings })
}

fn boards(folder: &Folder<'_>, server: &str, project: Option<&str>, only: Option<Model>) -> Vec<ModelReport> {
    let chosen = Model::ALL.into_iter().filter(|model| only.is_none_or(|only| only == *model));
    let of = |model: Model| {
        let places = project.into_iter().chain([set_of(model.family()), ""]).map(str::to_owned).collect();
        Board::new(folder, server, places, model).report()
    };
    let mut reports: Vec<ModelReport> = chosen.map(of).collect();
    // Firmware without any device tree: meant for a family, and good for none of it.
    let with_trees: Vec<Family> =
        reports.iter().filter(|report| report.prepared).map(|report| report.model.family()).collect();
    for report in reports.iter_mut().filter(|report| !with_trees.contains(&report.model.family())) {
        report.prepared = report.marked;
    }
    reports
}
