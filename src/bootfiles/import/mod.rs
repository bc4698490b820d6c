//! Takes boot files over from a folder that somebody else has made: an unpacked raspberrypi/firmware, or the
//! predecessor's `scriptexecute/`. Known names only, never through a link that leads out, each file whole or not at all.

mod landing;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Read};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::bootfiles::NotServed;
use crate::bootfiles::folder::Folder;
use crate::bootfiles::import::landing::{Before, make_folders, there, write};
use crate::bootfiles::material::{Kind, kind_of};
use crate::bootfiles::model::family_of;
use crate::bootfiles::name::{PROJECTS, Prefix, set_of};
use crate::core::device::Family;
use crate::core::project::ProjectId;

/// What to take over, and how.
#[derive(Clone, Debug)]
pub struct Order {
    pub from: PathBuf,
    /// The folder of boot files.
    pub to: PathBuf,
    pub place: Target,
    pub dry_run: bool,
    /// Replace files that differ.
    pub force: bool,
}

/// Where in the folder of boot files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    #[default]
    Common,
    Family(Family),
    Project(ProjectId),
    Device(Prefix),
}

impl Target {
    fn folder(&self) -> String {
        match self {
            Self::Common => String::new(),
            Self::Family(family) => set_of(*family).to_owned(),
            Self::Project(id) => format!("{PROJECTS}/{id}"),
            Self::Device(device) => device.folder(),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let families = [Family::Pi3, Family::Pi4, Family::Pi5];
        let project = text.strip_prefix("projects/").and_then(|id| id.parse().ok());
        families
            .into_iter()
            .find(|family| set_of(*family) == text)
            .map(Self::Family)
            .or_else(|| project.map(Self::Project))
            .or_else(|| Prefix::parse(text).map(Self::Device))
            .ok_or_else(|| {
                format!("no device looks into {text:?}; use 2710, 2711, 2712, projects/<project>, <serial8> or <mac-with-dashes>")
            })
    }
}

/// What came of it, file by file.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// What the folder is, in words.
    pub source: &'static str,
    pub from: PathBuf,
    pub to: PathBuf,
    pub dry_run: bool,
    pub files: Vec<Taken>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Below the source.
    pub file: String,
    #[serde(flatten)]
    pub fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    Copied {
        to: String,
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The same bytes lie there.
    Same {
        to: String,
    },
    /// A different file lies there, and nobody said that it may go.
    InTheWay {
        to: String,
    },
    Left {
        why: String,
    },
}

impl Imported {
    pub fn in_the_way(&self) -> bool {
        self.files.iter().any(|taken| matches!(taken.fate, Fate::InTheWay { .. }))
    }
}

pub fn import(order: &Order) -> Result<Imported, ImportError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Read { path, source }
    };
    fs::metadata(&order.from).map_err(unreadable(&order.from))?;
    let folder = Folder::open(&order.from).map_err(|why| source_fault(&order.from, why))?;
    let (below, source) = recognise(&order.from)?;
    let to = order.to.join(order.place.folder());
    let mut imported = Imported { source, from: order.from.join(below), to, dry_run: order.dry_run, files: Vec::new() };
    for path in listed(&order.from, below)? {
        let fate = take(order, &folder, below, &path)?;
        imported.files.push(Taken { file: path, fate });
    }
    Ok(imported)
}

/// What a folder is, by what lies in it; and where in it the files are.
fn recognise(from: &Path) -> Result<(&'static str, &'static str), ImportError> {
    for below in ["", "boot", "scriptexecute"] {
        let folder = from.join(below);
        // A link here would be the way out.
        if !below.is_empty() && !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let names = names(&folder)?;
        let has = |wanted: &dyn Fn(&str) -> bool| names.iter().any(|name| wanted(name));
        if has(&|name| name == "scriptexecute.img") {
            return Ok((below, "the predecessor's scriptexecute folder"));
        }
        let is_tree = |name: &str| name.starts_with("bcm27") && name.ends_with(".dtb");
        if has(&|name| kind_of(name) == Some(Kind::Firmware) || is_tree(name)) {
            return Ok((below, "Raspberry Pi firmware"));
        }
        if has(&|name| name == "boot.img" || name.starts_with("initramfs")) {
            return Ok((below, "boot files"));
        }
    }
    Err(ImportError::Unknown { path: from.to_owned() })
}

/// Names in a folder, sorted, those of no text left out.
fn names(folder: &Path) -> Result<Vec<String>, ImportError> {
    let fault = |source| ImportError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        names.extend(entry.map_err(fault)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Files of the folder and of its `overlays/`, below `below`.
fn listed(from: &Path, below: &str) -> Result<Vec<String>, ImportError> {
    let folder = from.join(below);
    let mut listed = Vec::new();
    for name in names(&folder)? {
        let is_folder = fs::symlink_metadata(folder.join(&name)).is_ok_and(|metadata| metadata.is_dir());
        match (is_folder, name.as_str()) {
            (true, "overlays") => {
                listed.extend(names(&folder.join("overlays"))?.into_iter().map(|name| format!("overlays/{name}")));
            }
            (true, _) => {}
            (false, _) => listed.push(name),
        }
    }
    Ok(listed)
}

fn take(order: &Order, folder: &Folder<'_>, below: &str, path: &str) -> Result<Fate, ImportError> {
    let left = |why: &str| Ok(Fate::Left { why: why.to_owned() });
    let to = match kind_of(path) {
        Some(Kind::NeverServed) => return left("is never served: it would flash an EEPROM or start a rescue system"),
        None => return left("is no boot file"),
        // Where bootloaders ask for them; the predecessor has them flat.
        Some(Kind::Overlay) if !path.contains('/') => format!("overlays/{path}"),
        Some(_) => path.to_owned(),
    };
    if let Target::Family(family) = order.place
        && let Some(other) = family_of(path).filter(|other| *other != family)
    {
        return left(&format!("is for {}", set_of(other)));
    }
    let source = format!("{below}/{path}");
    let mut bytes = Vec::new();
    match folder.file(source.trim_start_matches('/')) {
        Ok((mut file, _)) => {
            let read = file.read_to_end(&mut bytes);
            read.map_err(|source| ImportError::Read { path: order.from.join(below).join(path), source })?;
        }
        Err(NotServed::Missing) => return left("is no file"),
        Err(NotServed::Denied) => return left("is a link that leads out of the folder"),
        Err(why @ NotServed::TooLarge { .. }) => return left(&why.to_string()),
        Err(why @ NotServed::Unreadable { .. }) => return Err(source_fault(&order.from.join(below).join(path), why)),
    }
    let note = (to == "cmdline.txt").then(|| follow_the_station(&mut bytes)).flatten();
    put(order, &to, &bytes, note)
}

/// The predecessor writes its own address into `script=`; here the station's is filled in. Says what it replaced.
fn follow_the_station(bytes: &mut Vec<u8>) -> Option<String> {
    let text = str::from_utf8(bytes).ok()?;
    let start = text.find("script=http://")? + "script=http://".len();
    let host = text[start..].split(['/', ' ', '\n']).next().filter(|host| !host.is_empty())?;
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok() || host.parse::<SocketAddrV4>().is_ok();
    if !is_address {
        return None;
    }
    let note = format!("{host} became {{server}}");
    let changed = format!("{}{{server}}{}", &text[..start], &text[start + host.len()..]);
    *bytes = changed.into_bytes();
    Some(note)
}

fn put(order: &Order, name: &str, bytes: &[u8], note: Option<String>) -> Result<Fate, ImportError> {
    let place = order.place.folder();
    let to = if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") };
    match there(&order.to, &to, bytes) {
        Before::Same => return Ok(Fate::Same { to }),
        Before::Different if !order.force => return Ok(Fate::InTheWay { to }),
        Before::Different | Before::Nothing => {}
    }
    if !order.dry_run {
        let path = order.to.join(&to);
        make_folders(&order.to, &to)?;
        write(&path, bytes).map_err(|source| ImportError::Write { path, source })?;
    }
    Ok(Fate::Copied { to, bytes: bytes.len() as u64, note })
}

fn source_fault(path: &Path, why: NotServed) -> ImportError {
    match why {
        NotServed::Unreadable { path, source } => ImportError::Read { path, source },
        other => ImportError::Read { path: path.to_owned(), source: io::Error::other(other) },
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is not a folder; files are written into real folders only")]
    NoFolder { path: PathBuf },
    #[error(
        "nothing in {path} looks like boot files: neither start*.elf, bootcode.bin and bcm27*.dtb of Raspberry Pi firmware, nor scriptexecute.img, nor boot.img (also looked for in boot/ and scriptexecute/)"
    )]
    Unknown { path: PathBuf },
}
