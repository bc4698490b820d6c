//! One boot file as it was when it was looked for, and its bytes once somebody has read them.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::bootfiles::render::Filling;

#[derive(Debug)]
pub struct BootFile {
    source: Source,
    bytes: OnceLock<Bytes>,
    /// Held by the one who reads, so that twenty boards do not read the same kernel twenty times.
    reading: Mutex<()>,
}

#[derive(Debug)]
enum Source {
    Disk(File, Stamp),
    Template(Arc<BootFile>, Filling),
    BuiltIn,
}

impl BootFile {
    fn new(source: Source, bytes: OnceLock<Bytes>) -> Self {
        Self { source, bytes, reading: Mutex::default() }
    }

    pub fn on_disk(file: File, stamp: Stamp) -> Self {
        Self::new(Source::Disk(file, stamp), OnceLock::new())
    }

    pub fn built_in(bytes: Bytes) -> Self {
        Self::new(Source::BuiltIn, OnceLock::from(bytes))
    }

    /// Made anew for each who asks: it is short, and may differ from device to device.
    pub fn rendered(template: Arc<Self>, filling: Filling) -> Self {
        let bytes = template.bytes().map_or_else(OnceLock::new, |raw| OnceLock::from(filling.render(&raw)));
        Self::new(Source::Template(template, filling), bytes)
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
        let bytes = match &self.source {
            Source::Disk(file, stamp) => from_disk(file, *stamp)?,
            Source::Template(template, filling) => filling.render(&template.read()?),
            Source::BuiltIn => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(self.bytes.get_or_init(|| bytes).clone())
    }

    /// It is still the file that was stamped.
    pub fn is(&self, stamp: Stamp) -> bool {
        matches!(&self.source, Source::Disk(_, own) if *own == stamp)
    }

    /// Its name was removed or given to another file, so nobody will find it again.
    pub fn is_gone(&self) -> bool {
        match &self.source {
            Source::Disk(file, _) => file.metadata().is_ok_and(|metadata| metadata.nlink() == 0),
            Source::Template(..) | Source::BuiltIn => false,
        }
    }
}

fn from_disk(file: &File, stamp: Stamp) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(stamp.size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    if Stamp::of(&file.metadata()?) != stamp {
        return Err(io::Error::other("the file has changed while it was read"));
    }
    Ok(Bytes::from(bytes))
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The same under every name and link.
    pub const fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}
