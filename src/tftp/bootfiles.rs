//! From the name a bootloader asks for to the bytes it gets.
//!
//! A board asks for 40 to 70 files, most of which are not there, so a look costs one open and one stat below the
//! folder; the bytes of a file are read once and shared by all downloads until the file changes.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::core::device::{Mac, Serial8};

/// The folder of boot files, and what of it was read already.
pub struct BootFiles {
    folder: PathBuf,
    /// What `{server}` in `config.txt` and `cmdline.txt` becomes.
    server: String,
    /// By device, inode and kind, so that no name, link or prefix makes it grow beyond the folder.
    known: HashMap<(u64, u64, Kind), Arc<BootFile>>,
}

impl BootFiles {
    pub fn new(folder: PathBuf, devices_http: SocketAddrV4) -> Self {
        let server = match devices_http.port() {
            80 => devices_http.ip().to_string(),
            _ => devices_http.to_string(),
        };
        Self { folder, server, known: HashMap::new() }
    }

    /// Looks for the file; does not read it.
    pub fn find(&mut self, asked: &str) -> Result<Arc<BootFile>, NotServed> {
        let path = path(asked)?;
        if is_never_served(&path) {
            return Err(NotServed::Missing);
        }
        let built_in = match path.as_str() {
            "config.txt" => Some(CONFIG),
            "cmdline.txt" => Some(CMDLINE),
            _ => None,
        };
        let kind = if built_in.is_some() { Kind::Template } else { Kind::Plain };
        let opened = match (self.open(&path), path.strip_prefix("overlays/")) {
            // The predecessor's folder has its overlays flat beside the rest.
            (Err(NotServed::Missing), Some(flat)) => self.open(flat),
            (opened, _) => opened,
        };
        match (opened, built_in) {
            (Ok((file, stamp)), _) => Ok(self.keep(file, stamp, kind)),
            (Err(NotServed::Missing), Some(text)) => Ok(Arc::new(BootFile::ready(render(text, &self.server)))),
            (Err(why), _) => Err(why),
        }
    }

    fn keep(&mut self, file: File, stamp: Stamp, kind: Kind) -> Arc<BootFile> {
        let key = (stamp.device, stamp.inode, kind);
        match self.known.get(&key) {
            Some(known) if known.stamp == Some(stamp) => Arc::clone(known),
            _ => {
                let server = matches!(kind, Kind::Template).then(|| self.server.clone());
                let fresh = BootFile { source: Some(file), stamp: Some(stamp), server, ..BootFile::default() };
                let fresh = Arc::new(fresh);
                self.known.insert(key, Arc::clone(&fresh));
                fresh
            }
        }
    }

    /// Opens a file below the folder. A link may lead to another place in it, and not out of it.
    fn open(&self, path: &str) -> Result<(File, Stamp), NotServed> {
        let fault = |source| NotServed::Unreadable { path: self.folder.join(path), source };
        let folder = File::open(&self.folder).map_err(fault)?;
        let how = OpenHow::new()
            // A pipe in the folder must not hold us up.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // The kernel gives up on a ".." in a link while anything on the machine is renamed.
        let mut tries = (0..TRIES).map(|_| openat2(&folder, Path::new(path), how));
        let opened = tries.find(|opened| !matches!(opened, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {
                return Err(NotServed::Missing);
            }
            Err(Errno::EXDEV) => return Err(NotServed::Denied),
            Err(error) => return Err(fault(error.into())),
        };
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(NotServed::Missing);
        }
        if metadata.len() > LARGEST {
            return Err(NotServed::TooLarge { path: self.folder.join(path), bytes: metadata.len() });
        }
        Ok((file, Stamp::of(&metadata)))
    }
}

/// One file as it was when it was looked for.
#[derive(Debug, Default)]
pub struct BootFile {
    source: Option<File>,
    stamp: Option<Stamp>,
    /// Set for a template.
    server: Option<String>,
    bytes: OnceLock<Bytes>,
    /// Held by the one who reads, so that twenty boards do not read the same kernel twenty times.
    reading: Mutex<()>,
}

impl BootFile {
    fn ready(bytes: Bytes) -> Self {
        Self { bytes: OnceLock::from(bytes), ..Self::default() }
    }

    /// The bytes, if somebody has read them already.
    pub fn bytes(&self) -> Option<Bytes> {
        self.bytes.get().cloned()
    }

    /// Reads the file, or waits for the one who does. Blocks.
    pub fn read(&self) -> io::Result<Bytes> {
        let _turn = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = self.bytes() {
            return Ok(bytes);
        }
        let (Some(file), Some(stamp)) = (&self.source, self.stamp) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = vec![0; usize::try_from(stamp.size).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(io::Error::other("the file has changed while it was read"));
        }
        let bytes = match &self.server {
            Some(server) => render(&String::from_utf8_lossy(&bytes), server),
            None => Bytes::from(bytes),
        };
        Ok(self.bytes.get_or_init(|| bytes).clone())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Plain,
    Template,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The path below the folder, without the device's prefix (`TFTP_PREFIX`: low word of the serial, or MAC). All devices
/// have the same files, so whose prefix it is does not matter; and because `<prefix>/start4.elf` is found, a bootloader
/// keeps its prefix and tells who it is with every name.
fn path(asked: &str) -> Result<String, NotServed> {
    if asked.contains(['\\', '\0']) || asked.split('/').any(|part| part == "..") {
        return Err(NotServed::Denied);
    }
    // Seen from Pi 4 and 5: a leading slash, and a doubled one after the prefix.
    let parts: Vec<&str> = asked.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let parts = match parts.as_slice() {
        [first, rest @ ..] if !rest.is_empty() && is_prefix(first) => rest,
        all => all,
    };
    if parts.is_empty() {
        return Err(NotServed::Missing);
    }
    Ok(parts.join("/"))
}

fn is_prefix(part: &str) -> bool {
    part.parse::<Serial8>().is_ok() || (part.contains('-') && part.parse::<Mac>().is_ok())
}

/// Names that make a bootloader flash its EEPROM or start a rescue system. They are asked for at every boot, so a file
/// of that name that happens to lie in the folder would be a trap.
fn is_never_served(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.starts_with("pieeprom.") || name.starts_with("recovery.") || name == "recover4.elf"
}

/// The other braces of `cmdline.txt` are for the device to fill in.
fn render(template: &str, server: &str) -> Bytes {
    template.replace("{server}", server).into()
}

const CONFIG: &str = include_str!("../../bootfiles/config.txt");
const CMDLINE: &str = include_str!("../../bootfiles/cmdline.txt");
/// One of a hundred fails while another process renames without a pause.
const TRIES: u32 = 32;
/// No bootloader takes more; whoever puts a disk image here has mistaken the folder.
const LARGEST: u64 = 256 << 20;

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
