//! Where an imported file lands: what lies there already, and how the new one takes its place.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::bootfiles::folder::Folder;
use crate::bootfiles::import::ImportError;

/// What lies where a file is to go.
pub enum Before {
    Nothing,
    Same,
    Different,
}

pub fn there(folder: &Path, to: &str, bytes: &[u8]) -> Before {
    if fs::symlink_metadata(folder.join(to)).is_err() {
        return Before::Nothing;
    }
    let old = Folder::open(folder).and_then(|folder| folder.file(to)).ok().and_then(|(mut file, stamp)| {
        let mut old = Vec::new();
        (stamp.size == bytes.len() as u64).then(|| file.read_to_end(&mut old).ok().map(|_| old)).flatten()
    });
    if old.as_deref() == Some(bytes) { Before::Same } else { Before::Different }
}

/// Only real folders are written into: a link would lead elsewhere.
pub fn make_folders(root: &Path, to: &str) -> Result<(), ImportError> {
    fs::create_dir_all(root).map_err(|source| ImportError::Write { path: root.to_owned(), source })?;
    let mut path = root.to_owned();
    for part in Path::new(to).parent().into_iter().flat_map(Path::components) {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(ImportError::NoFolder { path }),
            Err(_) => fs::create_dir(&path).map_err(|source| ImportError::Write { path: path.clone(), source })?,
        }
    }
    Ok(())
}

/// A board that asks at this moment gets the old file or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    if written.is_err() {
        drop(fs::remove_file(&fresh));
    }
    written
}
