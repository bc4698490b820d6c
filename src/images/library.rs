//! Files by digest: `images/<sha256>` is an image in whole, `images/incoming/*.part` is one on its way in, and
//! `import/` is where people put files that are taken in by path. No runtime, no clock.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use uuid::Uuid;

use crate::core::image::{Digest, Image};
use crate::core::refusal::Refusal;

/// The folders of a station's images.
#[derive(Clone, Debug)]
pub struct Library {
    images: PathBuf,
    incoming: PathBuf,
    import: PathBuf,
}

impl Library {
    /// Makes the folders below `data` and clears away what uploads of an earlier life have left.
    pub fn open(data: &Path) -> Result<Self, FolderFault> {
        let images = data.join("images");
        let library = Self { incoming: images.join("incoming"), import: data.join("import"), images };
        for folder in [&library.images, &library.incoming, &library.import] {
            fs::create_dir_all(folder).map_err(|source| FolderFault { path: folder.clone(), source })?;
        }
        library.clear_incoming().map_err(|source| FolderFault { path: library.incoming.clone(), source })?;
        Ok(library)
    }

    fn clear_incoming(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.incoming)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Where the file of an image is, if there is one.
    pub fn file(&self, id: Digest) -> PathBuf {
        self.images.join(id.to_string())
    }

    /// A new file on its way in.
    pub fn part(&self) -> io::Result<Part> {
        let path = self.incoming.join(format!("{}.part", Uuid::now_v7()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Part { file, path, placed: false })
    }

    /// Gives a file that is whole its name, for good: once this returns, a power cut does not undo it. A file of the
    /// same name is replaced by the same bytes, which also heals it.
    pub fn place(&self, mut part: Part, id: Digest) -> io::Result<()> {
        part.file.sync_all()?;
        fs::rename(&part.path, self.file(id))?;
        part.placed = true;
        File::open(&self.images)?.sync_all()
    }

    /// A file that is not there is no fault.
    pub fn remove(&self, id: Digest) -> io::Result<()> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Images whose file is gone or has another size.
    pub fn damaged(&self, images: &[Image]) -> Vec<Damage> {
        let wrong = |image: &Image| match fs::metadata(self.file(image.id)) {
            Ok(found) if found.is_file() && found.len() == image.size_bytes => None,
            Ok(found) => Some(format!("its file has {} bytes instead of {}", found.len(), image.size_bytes)),
            Err(error) => Some(format!("its file cannot be read: {error}")),
        };
        let damage = |image: &Image| Some(Damage { image: image.id, name: image.name.clone(), what: wrong(image)? });
        images.iter().filter_map(damage).collect()
    }

    /// Opens a regular file below `import/`. No part of the path may be a link, so that it cannot lead out.
    pub fn import(&self, relative: &str) -> Result<File, Refusal> {
        let wrong = |why: &str| Refusal::invalid("/path", format!("{relative:?} {why}"));
        let names = Path::new(relative)
            .components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| match part {
                Component::Normal(name) => Ok(name),
                _ => Err(wrong("is not a plain path below the import folder")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let Some((last, folders)) = names.split_last() else {
            return Err(wrong("names no file"));
        };
        let fault = |error: Errno| match error {
            Errno::ENOENT => Refusal::not_found("file", format!("{relative:?} in the import folder")),
            Errno::ELOOP | Errno::ENOTDIR => wrong("leads through a link or something that is not a folder"),
            other => wrong(&format!("cannot be opened: {}", other.desc())),
        };
        let common = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = File::open(&self.import).map_err(|error| wrong(&format!("cannot be reached: {error}")))?;
        let folder = folders.iter().try_fold(root.into(), |folder: std::os::fd::OwnedFd, name| {
            openat(&folder, *name, common | OFlag::O_DIRECTORY, Mode::empty()).map_err(fault)
        })?;
        // Not to wait for the other end of a pipe that somebody has put there.
        let file = openat(&folder, *last, common | OFlag::O_NONBLOCK, Mode::empty()).map_err(fault)?;
        let file = File::from(file);
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(file),
            _ => Err(wrong("is not a regular file")),
        }
    }
}

/// A file on its way in; gone with this value unless it was placed.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    placed: bool,
}

impl Part {
    /// The same bytes, from the beginning.
    pub fn reopen(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// An image that cannot be written onto any device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub image: Digest,
    pub name: String,
    what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {:?} ({}): {}", self.name, self.image, self.what)
    }
}

/// A folder of the library cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the image folder {}", path.display())]
pub struct FolderFault {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::core::image::{Compression, Survey};
    use crate::core::time::Timestamp;

    #[test]
    fn what_an_upload_left_behind_is_cleared_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).unwrap();
        std::mem::forget(library.part().unwrap());
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 1);
        let library = Library::open(data.path()).unwrap();
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 0);
    }

    #[test]
    fn a_part_that_was_not_placed_is_gone() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).unwrap();
        let mut part = library.part().unwrap();
        part.write(b"half").unwrap();
        drop(part);
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 0);
    }

    #[test]
    fn a_start_finds_images_whose_file_is_gone_or_cut() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).unwrap();
        let image = |byte: u8| Image {
            id: Digest::new([byte; 32]),
            name: "a.img".to_owned(),
            size_bytes: 512,
            compression: Compression::Raw,
            raw_sha256: Digest::new([byte; 32]),
            raw_size_bytes: 512,
            survey: Survey::default(),
            added_at: Timestamp::default(),
        };
        fs::write(library.file(image(1).id), [0; 512]).unwrap();
        fs::write(library.file(image(2).id), [0; 511]).unwrap();
        let damaged = library.damaged(&[image(1), image(2), image(3)]);
        let damaged: Vec<Digest> = damaged.iter().map(|damage| damage.image).collect();
        assert_eq!(damaged, [image(2).id, image(3).id]);
    }

    #[test]
    fn a_path_cannot_lead_out_of_the_import_folder() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).unwrap();
        let import = data.path().join("import");
        fs::create_dir_all(import.join("line 1")).unwrap();
        fs::write(import.join("line 1/a.img"), b"a").unwrap();
        fs::write(data.path().join("secret"), b"s").unwrap();
        symlink("../secret", import.join("link")).unwrap();
        symlink("..", import.join("up")).unwrap();
        nix::unistd::mkfifo(&import.join("pipe"), Mode::S_IRWXU).unwrap();
        assert!(library.import("line 1/a.img").is_ok());
        assert!(library.import("./line 1//a.img").is_ok());
        for (path, status) in [
            ("", 400),
            ("/etc/passwd", 400),
            ("../secret", 400),
            ("line 1/../../secret", 400),
            ("link", 400),
            ("up/secret", 400),
            ("line 1", 400),
            ("pipe", 400),
            ("a\0b", 400),
            ("line 1/b.img", 404),
            ("line 1/a.img/b", 400),
        ] {
            assert_eq!(library.import(path).unwrap_err().status, status, "{path}");
        }
    }
}
