//! Files by digest: `images/<sha256>` is an image in whole, `images/cache/<sha256>.gz` another form of it,
//! `images/incoming/*.part` is one on its way in, `images/uploads` and `images/fetch` hold those that come with breaks,
//! and `import/` is where people put files that are taken in by path. No runtime, no clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use uuid::Uuid;

use crate::core::image::{Compression, Digest, Image};
use crate::core::refusal::Refusal;
use crate::images::partial;

/// The folders of a station's images.
#[derive(Clone, Debug)]
pub struct Library {
    images: PathBuf,
    incoming: PathBuf,
    cache: PathBuf,
    /// Uploads that can be resumed.
    pub uploads: PathBuf,
    /// Files that are fetched by URL.
    pub fetch: PathBuf,
    import: PathBuf,
    /// Bytes of the disk that are left to the ledger.
    reserve: u64,
}

impl Library {
    /// Makes the folders below `data` and clears away what uploads of an earlier life have left.
    pub fn open(data: &Path, reserve: u64) -> Result<Self, FolderFault> {
        let images = data.join("images");
        let library = Self {
            incoming: images.join("incoming"),
            cache: images.join("cache"),
            uploads: images.join("uploads"),
            fetch: images.join("fetch"),
            import: data.join("import"),
            images,
            reserve,
        };
        let Self { images, incoming, cache, uploads, fetch, import, .. } = &library;
        for folder in [images, incoming, cache, uploads, fetch, import] {
            fs::create_dir_all(folder).map_err(|source| FolderFault { path: folder.clone(), source })?;
        }
        library.clear_incoming().map_err(|source| FolderFault { path: library.incoming.clone(), source })?;
        Ok(library)
    }

    fn clear_incoming(&self) -> io::Result<()> {
        partial::clear(&self.uploads)?;
        partial::clear(&self.fetch)?;
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

    /// Where another form of an image is, if there is one.
    pub fn form(&self, id: Digest, form: Compression) -> PathBuf {
        self.cache.join(format!("{id}.{}", form.as_str()))
    }

    /// Will so many bytes leave enough of the disk to the ledger?
    pub fn room_for(&self, bytes: u64) -> io::Result<()> {
        let disk = statvfs(&self.images)?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        match free.checked_sub(bytes).is_some_and(|left| left >= self.reserve) {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// A new file on its way in.
    pub fn part(&self) -> io::Result<Part> {
        let path = self.incoming.join(format!("{}.part", Uuid::now_v7()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Part { syncer: Syncer::start(&file)?, file, path, unsynced: 0, placed: false })
    }

    /// Gives a file that is whole its name, for good: once this returns, a power cut does not undo it. A file of the
    /// same name is replaced by the same bytes, which also heals it.
    pub fn place(&self, part: Part, id: Digest) -> io::Result<()> {
        part.place(&self.file(id))
    }

    /// The same for another form of an image.
    pub fn place_form(&self, part: Part, id: Digest, form: Compression) -> io::Result<()> {
        part.place(&self.form(id, form))
    }

    /// Forms in the cache that nobody knows of: a crash came between the file and the word of the ledger.
    pub fn strays(&self, known: impl Fn(Digest) -> bool) -> io::Result<Vec<PathBuf>> {
        let mut strays = Vec::new();
        for entry in fs::read_dir(&self.cache)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if !id.is_some_and(&known) {
                strays.push(path);
            }
        }
        Ok(strays)
    }

    /// The file of an image and its other forms. A file that is not there is no fault.
    pub fn remove(&self, id: Digest) -> io::Result<()> {
        self.remove_form(id, Compression::Gz)?;
        remove(&self.file(id))
    }

    pub fn remove_form(&self, id: Digest, form: Compression) -> io::Result<()> {
        remove(&self.form(id, form))
    }

    /// Images whose file is gone or has another size.
    pub fn damaged(&self, images: &[Image]) -> Vec<Damage> {
        let wrong = |image: &Image| match fs::metadata(self.file(image.id)) {
            Ok(found) if found.is_file() && found.len() == image.size_bytes => None,
            Ok(found) => Some(format!("its file has {} bytes instead of {}", found.len(), image.size_bytes)),
            Err(error) => Some(format!("its file cannot be read: {error}")),
        };
        let damage = |image: &Image| Some(Damage { image: image.id, what: wrong(image)? });
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes after which the disk is set to work. Gigabytes that are written out all at once at the end would keep the
/// commits of the ledger waiting behind them.
const SYNC_EVERY: usize = 32 << 20;

/// A file on its way in; gone with this value unless it was placed.
#[derive(Debug)]
pub struct Part {
    syncer: Syncer,
    file: File,
    path: PathBuf,
    unsynced: usize,
    placed: bool,
}

impl Part {
    /// The same bytes, from the beginning.
    pub fn reopen(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.syncer.nudge();
        }
        self.file.write_all(bytes)
    }

    fn place(mut self, target: &Path) -> io::Result<()> {
        self.syncer.end();
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        self.placed = true;
        target.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// Brings a file to the disk beside the thread that writes it.
#[derive(Debug)]
struct Syncer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (wake, asked) = sync_channel(1);
        let sync = move || {
            while asked.recv().is_ok() {
                // An error shows again at the end, where it counts.
                let _ = file.sync_data();
            }
        };
        let thread = std::thread::Builder::new().name("sync".to_owned()).spawn(sync)?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Does nothing where it has been asked already.
    fn nudge(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }

    fn end(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.syncer.end();
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
    /// What is wrong with its file.
    pub what: String,
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
    use crate::core::image::Survey;
    use crate::core::time::Timestamp;

    #[test]
    fn what_an_upload_left_behind_is_cleared_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path(), 0).unwrap();
        std::mem::forget(library.part().unwrap());
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 1);
        let library = Library::open(data.path(), 0).unwrap();
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 0);
    }

    #[test]
    fn a_part_that_was_not_placed_is_gone() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path(), 0).unwrap();
        let mut part = library.part().unwrap();
        part.write(b"half").unwrap();
        drop(part);
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 0);
    }

    #[test]
    fn a_reserve_of_the_disk_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path(), 1 << 60).unwrap();
        assert_eq!(library.room_for(1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(Library::open(data.path(), 0).unwrap().room_for(1).is_ok());
    }

    #[test]
    fn a_start_finds_images_whose_file_is_gone_or_cut() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path(), 0).unwrap();
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
        let library = Library::open(data.path(), 0).unwrap();
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
