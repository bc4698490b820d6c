//! Boot files: from the name a bootloader asks for to the bytes it gets, whichever protocol carries them.
//!
//! A board asks for 40 to 70 files, most of which are not there, so a look costs a few opens below the folder; the
//! bytes of a file are read once and shared by all downloads until the file changes.

pub mod check;
mod config_txt;
mod file;
mod folder;
pub mod import;
mod material;
pub mod model;
mod name;
mod render;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bootfiles::file::Stamp;
use crate::bootfiles::folder::Folder;
use crate::bootfiles::name::{Asked, PROJECTS, Prefix, set_of};
use crate::bootfiles::render::{Filling, built_in};
use crate::core::view::Tenant;

pub use crate::bootfiles::file::BootFile;

/// The folder of boot files, and what of it was read already.
pub struct BootFiles {
    folder: PathBuf,
    /// What `{server}` in `config.txt` and `cmdline.txt` becomes.
    server: String,
    /// By device and inode, so that no name, link or prefix makes it grow beyond the folder. A mutex around a small map,
    /// held for a look and never while a file is read.
    known: Mutex<HashMap<(u64, u64), Arc<BootFile>>>,
    /// The subfolders as of a stamp: most stations have none, and a miss need not look into any.
    subfolders: Mutex<Option<Subfolders>>,
}

type Subfolders = ((Stamp, u64), Arc<HashSet<String>>);

impl BootFiles {
    pub fn new(folder: PathBuf, devices_http: SocketAddrV4) -> Self {
        let server = match devices_http.port() {
            80 => devices_http.ip().to_string(),
            _ => devices_http.to_string(),
        };
        Self { folder, server, known: Mutex::default(), subfolders: Mutex::default() }
    }

    /// Looks for the file that this client gets under this name; does not read it.
    pub fn find(&self, asked: &str, client: Option<&Tenant>) -> Result<Arc<BootFile>, NotServed> {
        let asked = Asked::parse(asked)?;
        let folder = Folder::open(&self.folder)?;
        let project = client.and_then(|tenant| tenant.project.as_deref());
        let subfolders = self.subfolders(&folder);
        let found = places(asked.device, client)
            .iter()
            .filter(|place| place.is_empty() || subfolders.contains(place.split('/').next().unwrap_or_default()))
            .map(|place| look(&folder, place, &asked.path))
            .find(|found| !matches!(found, Err(NotServed::Missing)))
            .unwrap_or(Err(NotServed::Missing));
        let Some(text) = built_in(&asked.path) else {
            return found.map(|(file, stamp)| self.keep(file, stamp));
        };
        let lines = project.filter(|_| asked.path == "config.txt").and_then(|project| project.config_txt.clone());
        let filling = Filling { server: self.server.clone(), lines };
        Ok(Arc::new(match found {
            Ok((file, stamp)) => BootFile::rendered(self.keep(file, stamp), filling),
            Err(NotServed::Missing) => BootFile::built_in(filling.render(text.as_bytes())),
            Err(why) => return Err(why),
        }))
    }

    fn subfolders(&self, folder: &Folder<'_>) -> Arc<HashSet<String>> {
        let stamp = folder.stamp();
        let mut seen = self.subfolders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, subfolders)) = seen.as_ref().filter(|(at, _)| Some(*at) == stamp) {
            return Arc::clone(subfolders);
        }
        let fresh = Arc::new(folder.subfolders());
        *seen = stamp.map(|stamp| (stamp, Arc::clone(&fresh)));
        fresh
    }

    fn keep(&self, file: File, stamp: Stamp) -> Arc<BootFile> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&stamp.identity()) {
            Some(same) if same.is(stamp) => Arc::clone(same),
            _ => {
                // Something was replaced or is new: what is gone from the folder would hold its memory and disk space.
                known.retain(|_, old| !old.is_gone());
                let fresh = Arc::new(BootFile::on_disk(file, stamp));
                known.insert(stamp.identity(), Arc::clone(&fresh));
                fresh
            }
        }
    }
}

/// Where in the folder a file is looked for, the nearest to the device first. The prefix names the device; without one,
/// the address does.
fn places(prefix: Option<Prefix>, client: Option<&Tenant>) -> Vec<String> {
    let mut places = Vec::with_capacity(5);
    let own = client.map(|tenant| [tenant.serial8.map(Prefix::Serial), Some(Prefix::Mac(tenant.mac))]);
    let own: Vec<Prefix> = own.into_iter().flatten().flatten().collect();
    match prefix {
        Some(other) if !own.contains(&other) => places.push(other.folder()),
        _ => places.extend(own.into_iter().map(Prefix::folder)),
    }
    if let Some(tenant) = client {
        places.extend(tenant.project.as_ref().map(|project| format!("{PROJECTS}/{}", project.id)));
        places.extend(tenant.family.map(|family| set_of(family).to_owned()));
    }
    places.push(String::new());
    places
}

fn look(folder: &Folder<'_>, place: &str, path: &str) -> Result<(File, Stamp), NotServed> {
    let below = |path: &str| if place.is_empty() { path.to_owned() } else { format!("{place}/{path}") };
    let flat = path.strip_prefix("overlays/").filter(|flat| !flat.contains('/'));
    match (folder.file(&below(path)), flat) {
        // The predecessor's folder has its overlays flat beside the rest.
        (Err(NotServed::Missing), Some(flat)) => folder.file(&below(flat)),
        (found, _) => found,
    }
}

/// Why a name gets no file.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    #[error("file not found")]
    Missing,
    /// The name, or a link, leads out of the folder.
    #[error("access violation")]
    Denied,
    #[error("the boot file {path} is too large: {bytes} bytes")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("cannot read the boot file {path}")]
    Unreadable { path: PathBuf, source: io::Error },
}
