//! A backup: one file with the database of one moment, the firmware, and a list of the images, with or without them.
//!
//! It reads the data folder itself, beside the running agent: the database holds tokens and secrets, which no network
//! interface should give out, and a station that does not start can be backed up too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::app::tar;
use crate::core::image::Digest;
use crate::core::time::Timestamp;
use crate::ledger::Clock;
use crate::store::snapshot::{self, Contents};

pub const FORMAT: &str = "bootline-backup";
pub const MANIFEST: &str = "manifest.json";
pub const DATABASE: &str = "bootline.db";

/// What a backup says of itself; its first file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub v: u32,
    pub made_at: Timestamp,
    /// Of the program that made it.
    pub version: String,
    /// Of the database.
    pub schema: u64,
    pub epoch: String,
    pub newest_sequence: u64,
    pub database: Listed,
    pub images: Vec<Listed>,
    pub firmware: Vec<Listed>,
}

/// A file that belongs to the station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub name: String,
    pub sha256: Digest,
    pub size_bytes: u64,
    /// It is in the backup.
    pub included: bool,
}

/// Whether images go into the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    Listed,
    Included,
}

/// Writes a backup of a data folder. A file that is there is never overwritten.
pub fn make(data: &Path, file: &Path, images: Images) -> Result<Manifest> {
    let database = data.join(DATABASE);
    if !database.is_file() {
        bail!("there is no station in {}: no {DATABASE}", data.display());
    }
    if file.exists() {
        bail!("{} is there already; a backup overwrites nothing", file.display());
    }
    let parts = Parts { copy: beside(file, "db.part"), archive: beside(file, "part") };
    parts.clear()?;
    // The copy holds secrets: nobody else may read it, from its first byte on.
    create(&parts.copy)?;
    snapshot::copy(&database, &parts.copy)
        .with_context(|| format!("cannot copy {} to {}", database.display(), parts.copy.display()))?;
    let contents = snapshot::contents(&parts.copy)?;
    let manifest = manifest(data, &contents, &parts.copy, images)?;
    write(data, &manifest, &parts)?;
    place(&parts.archive, file)?;
    Ok(manifest)
}

/// Files on the way; whatever happens, they do not stay.
struct Parts {
    copy: PathBuf,
    archive: PathBuf,
}

impl Parts {
    /// What an earlier run has left.
    fn clear(&self) -> Result<()> {
        for path in [&self.copy, &self.archive] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next backup of this name.
        let _ = self.clear();
    }
}

fn beside(file: &Path, extension: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn create(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot make {}", path.display()))
}

fn manifest(data: &Path, contents: &Contents, copy: &Path, images: Images) -> Result<Manifest> {
    let (sha256, size_bytes) = sum(copy)?;
    let included = |folder: &str, id: Digest, size: u64| {
        fs::metadata(data.join(folder).join(id.to_string())).is_ok_and(|found| found.is_file() && found.len() == size)
    };
    let listed = |folder: &str, name: &str, sha256: Digest, size_bytes: u64, wanted: bool| Listed {
        name: name.to_owned(),
        sha256,
        size_bytes,
        included: wanted && included(folder, sha256, size_bytes),
    };
    let with_images = images == Images::Included;
    Ok(Manifest {
        format: FORMAT.to_owned(),
        v: 1,
        made_at: Clock::default().now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: contents.version,
        epoch: contents.epoch.clone(),
        newest_sequence: contents.newest,
        database: Listed { name: DATABASE.to_owned(), sha256, size_bytes, included: true },
        images: contents
            .images
            .iter()
            .map(|image| listed("images", &image.name, image.id, image.size_bytes, with_images))
            .collect(),
        firmware: contents
            .firmware
            .iter()
            .map(|firmware| listed("firmware", &firmware.name, firmware.id, firmware.size_bytes, true))
            .collect(),
    })
}

fn write(data: &Path, manifest: &Manifest, parts: &Parts) -> Result<()> {
    let file = create(&parts.archive)?;
    let mut archive = BufWriter::with_capacity(1 << 20, file);
    let text = serde_json::to_vec_pretty(manifest)?;
    let full = || format!("cannot write {}", parts.archive.display());
    tar::append(&mut archive, MANIFEST, text.len() as u64, &mut &*text).with_context(full)?;
    add(&mut archive, DATABASE, &parts.copy, manifest.database.size_bytes)?;
    for (folder, files) in [("firmware", &manifest.firmware), ("images", &manifest.images)] {
        for file in files.iter().filter(|file| file.included) {
            let name = format!("{folder}/{}", file.sha256);
            add(&mut archive, &name, &data.join(&name), file.size_bytes)?;
        }
    }
    tar::finish(&mut archive).with_context(full)?;
    archive.flush().with_context(full)?;
    archive.get_ref().sync_all().with_context(full)
}

fn add(archive: &mut BufWriter<File>, name: &str, path: &Path, size: u64) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    tar::append(archive, name, size, &mut file).with_context(|| format!("cannot back up {}", path.display()))
}

/// Gives the whole file its name. A link refuses to overwrite in the same step; a file system without links (a stick)
/// gets a look before.
fn place(part: &Path, file: &Path) -> Result<()> {
    let named = || format!("cannot name the backup {}", file.display());
    match fs::hard_link(part, file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error).with_context(named),
        Err(_) if file.exists() => bail!("{} is there already; a backup overwrites nothing", file.display()),
        Err(_) => fs::rename(part, file).with_context(named)?,
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all().with_context(|| format!("cannot sync {}", folder.display()))
}

/// SHA-256 and size.
pub fn sum(path: &Path) -> Result<(Digest, u64)> {
    let unread = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(unread)?;
    let (mut hash, mut size, mut chunk) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut chunk).with_context(unread)?;
        if read == 0 {
            return Ok((Digest::new(hash.finalize().into()), size));
        }
        hash.update(&chunk[..read]);
        size += read as u64;
    }
}
