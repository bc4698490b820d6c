//! A backup becomes a station again. The agent must be stopped; everything is read and proven before anything of the
//! old is touched; and the station gets a new epoch, because sequence numbers given after the backup come again.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::app::backup::{DATABASE, FORMAT, Listed, MANIFEST, Manifest};
use crate::app::{lock, tar};
use crate::core::image::Digest;
use crate::ledger::Clock;
use crate::store::snapshot;

/// Where a backup is taken apart. While it is there, a restore has begun and not ended, and no agent starts.
pub const WORK: &str = "restore";
const LARGEST_MANIFEST: u64 = 64 << 20;

/// What to do with a station that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    /// It is moved aside, not deleted.
    Replace,
}

/// What was restored.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// When the backup was made.
    pub made_at: crate::core::time::Timestamp,
    pub former_epoch: String,
    pub epoch: String,
    pub newest_sequence: u64,
    /// Images whose files are not here: no device gets them before they are uploaded again.
    pub missing: Vec<Listed>,
    /// Where the station that was here before is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<PathBuf>,
}

pub fn restore(file: &Path, data: &Path, existing: Existing) -> Result<Restored> {
    let _lock = lock::Lock::take(data)?;
    let database = data.join(DATABASE);
    let unfinished = data.join(WORK).exists();
    if database.exists() && existing == Existing::Refuse && !unfinished {
        bail!("there is a station in {} already; --replace moves it aside", data.display());
    }
    let work = data.join(WORK);
    if unfinished {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let proven = prove(file, &work);
    let manifest = match proven {
        Ok(manifest) => manifest,
        // Nothing of the old was touched; the agent may start again.
        Err(error) => {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
            return Err(error);
        }
    };
    let epoch = Uuid::new_v4().simple().to_string()[..8].to_owned();
    snapshot::renew(&work.join(DATABASE), &epoch)?;
    sync(&work.join(DATABASE))?;
    for folder in ["images", "firmware"] {
        place(&work.join(folder), &data.join(folder))?;
    }
    let replaced = set_aside(data)?;
    fs::rename(work.join(DATABASE), &database).context("cannot put the database in its place")?;
    sync(data)?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    sync(data)?;
    let here = |file: &&Listed| {
        let path = data.join("images").join(file.sha256.to_string());
        fs::metadata(path).is_ok_and(|found| found.len() == file.size_bytes)
    };
    Ok(Restored {
        made_at: manifest.made_at,
        former_epoch: manifest.epoch,
        epoch,
        newest_sequence: manifest.newest_sequence,
        missing: manifest.images.iter().filter(|file| !here(file)).cloned().collect(),
        replaced,
    })
}

/// Takes the backup apart and proves every file in it by its hash, and the database by reading it.
fn prove(file: &Path, work: &Path) -> Result<Manifest> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut archive = BufReader::with_capacity(1 << 20, opened);
    let manifest = read_manifest(&mut archive).with_context(|| format!("cannot read {}", file.display()))?;
    let mut due: Vec<(String, &Listed)> = vec![(DATABASE.to_owned(), &manifest.database)];
    for (folder, files) in [("firmware", &manifest.firmware), ("images", &manifest.images)] {
        fs::create_dir(work.join(folder))?;
        let included = files.iter().filter(|file| file.included);
        due.extend(included.map(|file| (format!("{folder}/{}", file.sha256), file)));
    }
    // Names come from the manifest's digests, never from the archive, so none leads out of the folder.
    for (name, listed) in due {
        let found = tar::next(&mut archive).with_context(|| format!("cannot read {}", file.display()))?;
        if found.as_ref() != Some(&(name.clone(), listed.size_bytes)) {
            bail!("{} is broken: {name} of {} bytes is not where it should be", file.display(), listed.size_bytes);
        }
        extract(&mut archive, &work.join(&name), listed).with_context(|| format!("cannot restore {name}"))?;
        tar::skip_padding(&mut archive, listed.size_bytes)?;
    }
    let contents = snapshot::contents(&work.join(DATABASE)).context("the database of the backup cannot be used")?;
    if contents.epoch != manifest.epoch || contents.newest != manifest.newest_sequence {
        bail!("{} is broken: its list and its database do not belong together", file.display());
    }
    Ok(manifest)
}

fn read_manifest(archive: &mut impl Read) -> Result<Manifest> {
    let (name, size) = tar::next(archive)?.context("it is empty")?;
    if name != MANIFEST || size > LARGEST_MANIFEST {
        bail!("not a backup of bootline: it begins with {name:?}");
    }
    let mut text = Vec::new();
    archive.take(size).read_to_end(&mut text)?;
    tar::skip_padding(archive, size)?;
    let manifest: Manifest = serde_json::from_slice(&text).context("its list does not read")?;
    if manifest.format != FORMAT || manifest.v != 1 {
        bail!("a backup of form {} {}; this bootline reads {FORMAT} 1", manifest.format, manifest.v);
    }
    Ok(manifest)
}

fn extract(archive: &mut impl Read, to: &Path, listed: &Listed) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let (mut hash, mut left, mut chunk) = (Sha256::new(), listed.size_bytes, vec![0; 1 << 20]);
    while left > 0 {
        let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        archive.read_exact(&mut chunk[..wanted])?;
        hash.update(&chunk[..wanted]);
        file.write_all(&chunk[..wanted])?;
        left -= wanted as u64;
    }
    let found = Digest::new(hash.finalize().into());
    if found != listed.sha256 {
        bail!("its sha256 is {found} instead of {}", listed.sha256);
    }
    Ok(file.sync_all()?)
}

/// Files by digest: one of the same name is the same file, or a damaged one.
fn place(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let path = to.join(entry.file_name());
        fs::rename(entry.path(), &path).with_context(|| format!("cannot put {} in its place", path.display()))?;
    }
    sync(to)
}

/// The old database with its log: together they are whole.
fn set_aside(data: &Path) -> Result<Option<PathBuf>> {
    let names = [DATABASE.to_owned(), format!("{DATABASE}-wal"), format!("{DATABASE}-shm")];
    let there: Vec<&String> = names.iter().filter(|name| data.join(name).exists()).collect();
    if there.is_empty() {
        return Ok(None);
    }
    let aside = data.join(format!("replaced-{}", Clock::default().now().millis()));
    fs::create_dir(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    for name in there {
        fs::rename(data.join(name), aside.join(name)).with_context(|| format!("cannot move {name} aside"))?;
    }
    sync(&aside)?;
    Ok(Some(aside))
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)?.sync_all().with_context(|| format!("cannot sync {}", path.display()))
}
