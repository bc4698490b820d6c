//! A folder whose names lead nowhere else: every file is opened by `openat2` below it.

use std::collections::HashSet;
use std::fs::{DirEntry, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::bootfiles::NotServed;
use crate::bootfiles::file::Stamp;

/// An open folder.
pub struct Folder<'a> {
    path: &'a Path,
    handle: File,
}

impl<'a> Folder<'a> {
    pub fn open(path: &'a Path) -> Result<Self, NotServed> {
        let handle = File::open(path).map_err(|source| NotServed::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { path, handle })
    }

    pub const fn path(&self) -> &Path {
        self.path
    }

    /// Opens a file below the folder. A link may lead to another place in it, and not out of it.
    pub fn file(&self, path: &str) -> Result<(File, Stamp), NotServed> {
        let fault = |source| NotServed::Unreadable { path: self.full(path), source };
        let how = OpenHow::new()
            // A pipe in the folder must not hold us up.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // The kernel gives up on a ".." in a link while anything on the machine is renamed.
        let mut tries = (0..TRIES).map(|_| openat2(&self.handle, Path::new(path), how));
        let opened = tries.find(|opened| !matches!(opened, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {
                return Err(NotServed::Missing);
            }
            Err(Errno::EXDEV) => return Err(NotServed::Denied),
            Err(error) => return Err(fault(io::Error::from(error))),
        };
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(NotServed::Missing);
        }
        if metadata.len() > LARGEST {
            return Err(NotServed::TooLarge { path: self.full(path), bytes: metadata.len() });
        }
        Ok((file, Stamp::of(&metadata)))
    }

    /// Changes when a name is added to the folder itself or taken away. The number of links counts its subfolders: two of
    /// them made within one tick of the file system's clock are told apart by it.
    pub fn stamp(&self) -> Option<(Stamp, u64)> {
        self.handle.metadata().ok().map(|metadata| (Stamp::of(&metadata), metadata.nlink()))
    }

    /// What of the folder may be a folder too, in lower case.
    pub fn subfolders(&self) -> HashSet<String> {
        let entries = std::fs::read_dir(self.path).into_iter().flatten().flatten();
        let may_be = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| !kind.is_file());
        entries.filter(may_be).map(|entry| entry.file_name().to_string_lossy().to_ascii_lowercase()).collect()
    }

    fn full(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }
}

/// No bootloader takes more; whoever puts a disk image here has mistaken the folder.
pub const LARGEST: u64 = 256 << 20;
/// One of a hundred fails while another process renames without a pause.
const TRIES: u32 = 32;
