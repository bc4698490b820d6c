//! A file that comes in with breaks: what was acknowledged of it survives a restart and a power cut. Beside the bytes
//! lies a label which says how many of them are on the disk for good. No runtime, no clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::core::image::Digest;
use crate::core::time::Timestamp;

/// Bytes that a power cut may take; then the disk is waited for.
const UNSAVED: u64 = 64 << 20;
const BLOCK: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub name: String,
    pub length: Option<u64>,
    pub sha256: Option<Digest>,
    /// Which version of a file behind a URL it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    pub offset: u64,
    /// When bytes came last.
    pub touched_at: Timestamp,
    /// It is whole, and on its way to the other images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Digest>,
}

#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    pub label: Label,
    saved: u64,
}

fn label_path(path: &Path) -> PathBuf {
    path.with_extension("json")
}

impl Partial {
    /// `id` is a name that this station has made or checked: it becomes part of a path.
    pub fn create(folder: &Path, id: &str, label: Label) -> io::Result<Self> {
        let path = folder.join(id).with_extension("bytes");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let mut partial = Self { path, file, hash: Sha256::new(), label, saved: 0 };
        partial.save()?;
        Ok(partial)
    }

    /// Goes on where the label says: what lies behind was never acknowledged. The hash is made up for by reading.
    pub fn open(folder: &Path, id: &str) -> io::Result<Option<Self>> {
        let path = folder.join(id).with_extension("bytes");
        let Some(label) = read_label(&label_path(&path))? else { return Ok(None) };
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.set_len(label.offset)?;
        let mut hash = Sha256::new();
        let mut reader = File::open(&path)?.take(label.offset);
        let mut buffer = vec![0; BLOCK];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        let saved = label.offset;
        Ok(Some(Self { path, file, hash, label, saved }))
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.label.offset)?;
        self.hash.update(bytes);
        self.label.offset += bytes.len() as u64;
        if self.label.offset - self.saved >= UNSAVED { self.save() } else { Ok(()) }
    }

    /// Once this returns, a power cut does not undo it.
    pub fn save(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.write_label()?;
        self.saved = self.label.offset;
        Ok(())
    }

    fn write_label(&self) -> io::Result<()> {
        let fresh = self.path.with_extension("fresh");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.label)?)?;
        file.sync_all()?;
        fs::rename(&fresh, label_path(&self.path))?;
        sync_folder(&self.path)
    }

    pub fn rewind(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.hash = Sha256::new();
        self.label.offset = 0;
        self.save()
    }

    /// The digest of all that has come.
    pub fn digest(&self) -> Digest {
        Digest::new(self.hash.clone().finalize().into())
    }

    /// Gives the whole file its place. Begun is told by the label, so that a restart in the middle ends it too.
    pub fn place(&mut self, target: &Path, digest: Digest) -> io::Result<()> {
        self.label.whole = Some(digest);
        self.save()?;
        fs::rename(&self.path, target)?;
        sync_folder(target)
    }

    /// Nothing of it is left.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn read_label(path: &Path) -> io::Result<Option<Label>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    for file in [path.to_owned(), path.with_extension("fresh"), label_path(path)] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The label of one that is there, without opening its bytes.
pub fn label(folder: &Path, id: &str) -> io::Result<Option<Label>> {
    read_label(&folder.join(id).with_extension("json"))
}

pub fn forget(folder: &Path, id: &str) -> io::Result<()> {
    remove(&folder.join(id).with_extension("bytes"))
}

/// Every one of a folder by its id.
pub fn all(folder: &Path) -> io::Result<Vec<(String, Label)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str())
            && let Ok(Some(label)) = read_label(&path)
        {
            found.push((id.to_owned(), label));
        }
    }
    Ok(found)
}

/// At the start, when nobody makes new ones: bytes without a label were never acknowledged.
pub fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            // Only a disk that has lost what was synced leaves a label that does not read.
            Some("json") if read_label(&path).is_err() => remove(&path.with_extension("bytes"))?,
            Some("bytes") if !label_path(&path).exists() => fs::remove_file(&path)?,
            Some("fresh") => fs::remove_file(&path)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_there_again_and_what_was_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut partial = Partial::create(folder.path(), "one", Label::default()).unwrap();
        partial.write(b"saved").unwrap();
        partial.save().unwrap();
        partial.write(b" and lost").unwrap();
        drop(partial);
        let mut again = Partial::open(folder.path(), "one").unwrap().unwrap();
        assert_eq!(again.label.offset, 5);
        again.write(b" again").unwrap();
        assert_eq!(again.digest(), Digest::new(Sha256::digest(b"saved again").into()));
        let target = folder.path().join("whole");
        again.place(&target, again.digest()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"saved again");
        let [(id, label)] = &all(folder.path()).unwrap()[..] else { panic!("one label") };
        assert_eq!((id.as_str(), label.whole), ("one", Some(again.digest())));
        again.remove().unwrap();
        assert!(Partial::open(folder.path(), "one").unwrap().is_none());
    }

    #[test]
    fn it_can_begin_anew_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut partial = Partial::create(folder.path(), "one", Label::default()).unwrap();
        partial.write(b"old").unwrap();
        partial.rewind().unwrap();
        partial.write(b"new").unwrap();
        assert_eq!(partial.digest(), Digest::new(Sha256::digest(b"new").into()));
        fs::write(folder.path().join("two.bytes"), b"never acknowledged").unwrap();
        partial.remove().unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
