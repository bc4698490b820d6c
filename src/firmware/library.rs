//! Files by digest: `firmware/<sha256>` is an EEPROM image in whole, `firmware/incoming/*.part` one on its way in.
//! No runtime, no clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use uuid::Uuid;

use crate::core::firmware::Firmware;
use crate::core::image::Digest;
use crate::core::refusal::Refusal;

/// The largest image, that of a 2712.
pub const LARGEST: usize = 2 << 20;

/// The folders of a station's EEPROM images.
#[derive(Clone, Debug)]
pub struct Library {
    whole: PathBuf,
    incoming: PathBuf,
    import: PathBuf,
}

impl Library {
    /// Makes the folders below `data` and clears away what an earlier life has left half.
    pub fn open(data: &Path) -> Result<Self, FolderFault> {
        let whole = data.join("firmware");
        let library = Self { incoming: whole.join("incoming"), import: data.join("import"), whole };
        for folder in [&library.whole, &library.incoming, &library.import] {
            fs::create_dir_all(folder).map_err(|source| FolderFault { path: folder.clone(), source })?;
        }
        let clear = || fs::read_dir(&library.incoming)?.try_for_each(|entry| fs::remove_file(entry?.path()));
        clear().map_err(|source| FolderFault { path: library.incoming.clone(), source })?;
        Ok(library)
    }

    pub fn file(&self, id: Digest) -> PathBuf {
        self.whole.join(id.to_string())
    }

    /// Once this returns, a power cut does not undo it. A file of the same name is replaced by the same bytes, which
    /// also heals it.
    pub fn place(&self, bytes: &[u8], id: Digest) -> io::Result<()> {
        let part = self.incoming.join(format!("{}.part", Uuid::now_v7()));
        let written = write(&part, bytes).and_then(|()| fs::rename(&part, self.file(id)));
        if written.is_err() {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&part);
        }
        written?;
        File::open(&self.whole)?.sync_all()
    }

    pub fn read(&self, id: Digest) -> io::Result<Vec<u8>> {
        fs::read(self.file(id))
    }

    /// A file that is not there is no fault.
    pub fn remove(&self, id: Digest) -> io::Result<()> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What the ledger knows and no device can be given: its file is gone or has another size.
    pub fn damaged<'a>(&self, known: &'a [Firmware]) -> Vec<&'a Firmware> {
        let whole = |firmware: &Firmware| {
            fs::metadata(self.file(firmware.id))
                .is_ok_and(|found| found.is_file() && found.len() == firmware.size_bytes)
        };
        known.iter().filter(|firmware| !whole(firmware)).collect()
    }

    /// Reads a file below `import/`. No part of the path may be a link or lead out: the kernel sees to that.
    pub fn import(&self, relative: &str) -> Result<Vec<u8>, Refusal> {
        let wrong = |why: &str| Refusal::invalid("/path", format!("{relative:?} {why}"));
        let fault = |error: Errno| match error {
            Errno::ENOENT => Refusal::not_found("file", format!("{relative:?} in the import folder")),
            Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV => wrong("leads through a link, or out of the import folder"),
            other => wrong(&format!("cannot be opened: {}", other.desc())),
        };
        let root = File::open(&self.import).map_err(|error| wrong(&format!("cannot be reached: {error}")))?;
        // Not to wait for the other end of a pipe that somebody has put there.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = File::from(openat2(&root, relative, how).map_err(fault)?);
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Err(wrong("is not a regular file"));
        }
        let mut bytes = Vec::new();
        let read = file.take(LARGEST as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        Ok(bytes)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A folder of the library cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the firmware folder {}", path.display())]
pub struct FolderFault {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_was_half_is_cleared_and_what_was_whole_stays() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).unwrap();
        fs::write(library.incoming.join("x.part"), b"half").unwrap();
        library.place(b"whole", Digest::new([1; 32])).unwrap();
        let library = Library::open(data.path()).unwrap();
        assert_eq!(fs::read_dir(&library.incoming).unwrap().count(), 0);
        assert_eq!(library.read(Digest::new([1; 32])).unwrap(), b"whole");
    }

    #[test]
    fn a_path_cannot_lead_out_of_the_import_folder() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).unwrap();
        let import = data.path().join("import");
        fs::create_dir_all(import.join("cm 4")).unwrap();
        fs::write(import.join("cm 4/pieeprom.bin"), b"a").unwrap();
        fs::write(data.path().join("secret"), b"s").unwrap();
        symlink("../secret", import.join("link")).unwrap();
        symlink("..", import.join("up")).unwrap();
        nix::unistd::mkfifo(&import.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(library.import("cm 4/pieeprom.bin").unwrap(), b"a");
        for (path, status) in [
            ("", 404),
            ("/etc/passwd", 400),
            ("../secret", 400),
            ("link", 400),
            ("up/secret", 400),
            ("cm 4", 400),
            ("pipe", 400),
            ("a\0b", 400),
            ("cm 4/other.bin", 404),
        ] {
            assert_eq!(library.import(path).unwrap_err().status, status, "{path}");
        }
    }
}
