//! A walk through the folder: its places, and what lies in it that no board will get.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::Path;

use crate::bootfiles::NotServed;
use crate::bootfiles::check::{Finding, Level};
use crate::bootfiles::folder::Folder;
use crate::bootfiles::name::{PROJECTS, Prefix, is_never_served, is_set};

#[derive(Debug, Default)]
pub struct Survey {
    /// Folders with files of their own, and these files.
    pub places: BTreeMap<String, Vec<String>>,
    pub findings: Vec<Finding>,
}

pub fn survey(folder: &Folder<'_>) -> Survey {
    let mut survey = Survey::default();
    let mut left = MOST;
    walk(folder, "", 0, &mut left, &mut survey);
    if left == 0 {
        survey.say(Level::Warning, format!("more than {MOST} files: the rest was not looked at"));
    }
    survey
}

impl Survey {
    fn say(&mut self, level: Level, text: String) {
        self.findings.push(Finding::new(level, text));
    }
}

fn walk(folder: &Folder<'_>, below: &str, depth: usize, left: &mut usize, survey: &mut Survey) {
    let entries = match std::fs::read_dir(folder.path().join(below)) {
        Ok(entries) => entries,
        Err(error) => return survey.say(Level::Warning, format!("{below}/ cannot be read: {error}")),
    };
    let mut entries: Vec<DirEntry> = entries.flatten().collect();
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            folder_met(&path, &name, below, survey);
            if depth < DEEPEST {
                walk(folder, &path, depth + 1, left, survey);
            }
        } else {
            file_met(folder, &path, kind.is_symlink(), survey);
        }
    }
}

fn folder_met(path: &str, name: &str, below: &str, survey: &mut Survey) {
    let is_place = match below {
        "" => {
            let lower = name.to_ascii_lowercase();
            let known = is_set(name) || Prefix::parse(name).is_some();
            if known && lower != name {
                survey.say(Level::Warning, format!("{path}/ is never looked into: its name must be {lower}"));
            }
            known && lower == name && name != PROJECTS
        }
        PROJECTS => true,
        _ => false,
    };
    if is_place {
        survey.places.entry(path.to_owned()).or_default();
    }
}

fn file_met(folder: &Folder<'_>, path: &str, is_link: bool, survey: &mut Survey) {
    if is_never_served(path) {
        survey.say(Level::Note, format!("{path} is never served: it would flash an EEPROM or start a rescue system"));
    }
    match folder.file(path) {
        Err(NotServed::Denied) => {
            let target = std::fs::read_link(folder.path().join(path)).unwrap_or_default();
            let text = format!("{path} is a link that leads out of the folder, to {}: it is refused", shown(&target));
            survey.say(Level::Fault, text);
        }
        Err(NotServed::TooLarge { bytes, .. }) => {
            survey.say(Level::Fault, format!("{path} has {bytes} bytes: beyond 256 MiB nothing is served"));
        }
        Err(NotServed::Unreadable { source, .. }) => {
            survey.say(Level::Fault, format!("{path} cannot be read: {source}"));
        }
        Err(NotServed::Missing) if is_link && !folder.path().join(path).is_dir() => {
            survey.say(Level::Warning, format!("{path} is a link to nothing"));
        }
        Ok(_) | Err(NotServed::Missing) => {}
    }
    let place =
        survey.places.iter_mut().find(|(place, _)| path.strip_prefix(*place).is_some_and(|rest| rest.starts_with('/')));
    if let Some((place, files)) = place {
        files.push(path[place.len() + 1..].to_owned());
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().filter(|c| !c.is_control()).collect()
}

/// The overlays of one firmware are 300 files.
const MOST: usize = 20_000;
const DEEPEST: usize = 6;
