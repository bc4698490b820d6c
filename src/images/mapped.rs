//! Image files go out from the page cache: mapped once for all clients, so that no buffers grow with their number, and
//! so that a connection can tell by the address of a slice which bytes of which file it is. The only `unsafe` of the
//! house is here.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use memmap2::{Advice, Mmap};

/// What a connection is given at a time.
const CHUNK: usize = 1 << 20;
/// What is brought into memory at a time, on a thread that may wait for the disk.
const AHEAD: usize = 4 << 20;

/// The files that are going out. A handle; the std mutex is held only to find one.
#[derive(Clone, Default)]
pub struct Mappings {
    open: Arc<Mutex<HashMap<PathBuf, Weak<Mapped>>>>,
}

/// One file, as long as somebody takes it.
pub struct Mapped {
    map: Mmap,
    file: File,
}

struct Shared(Arc<Mapped>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

impl Mappings {
    /// Blocks: it opens a file.
    pub fn open(&self, path: &Path) -> io::Result<Arc<Mapped>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that was replaced by the same upload has another inode and the same bytes: either will do.
        if let Some(mapped) = open.get(path).and_then(Weak::upgrade) {
            return Ok(mapped);
        }
        let file = File::open(path)?;
        #[expect(
            unsafe_code,
            reason = "image files are never written or cut once they have their name, only unlinked or replaced by a \
                      rename; their folder is readable by the station's user alone"
        )]
        // SAFETY: so the bytes do not change under the map. A disk that fails is met by `populate`, on pages that are
        // not in memory yet, before anyone reads them.
        let map = unsafe { Mmap::map(&file)? };
        let mapped = Arc::new(Mapped { map, file });
        open.retain(|_, mapped| mapped.strong_count() > 0);
        open.insert(path.to_owned(), Arc::downgrade(&mapped));
        Ok(mapped)
    }

    /// The file of which this is a part, and where it begins there.
    pub fn find(&self, bytes: &[u8]) -> Option<(Arc<Mapped>, usize)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().filter_map(Weak::upgrade).find_map(|mapped| {
            let at = bytes.as_ptr().addr().checked_sub(mapped.map.as_ptr().addr())?;
            (at + bytes.len() <= mapped.map.len()).then_some((mapped, at))
        })
    }
}

impl Mapped {
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Brings a part into memory; what the disk cannot read becomes an error here, and no signal later.
    fn populate(&self, from: usize, to: usize) -> io::Result<()> {
        match self.map.advise_range(Advice::PopulateRead, from, to - from) {
            // Linux before 5.14 does not know it: then the pages come as they are touched.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()),
            populated => populated,
        }
    }
}

/// The bytes `from..to`, by pieces.
pub fn stream(mapped: Arc<Mapped>, from: u64, to: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(mapped.map.len());
    let (from, to) = (place(from), place(to));
    let bytes = Bytes::from_owner(Shared(Arc::clone(&mapped)));
    unfold((from, from), move |(at, ready)| {
        let (mapped, bytes) = (Arc::clone(&mapped), bytes.clone());
        async move {
            if at >= to {
                return None;
            }
            let mut ready = ready;
            if at >= ready {
                ready = to.min(at + AHEAD);
                let populated = tokio::task::spawn_blocking(move || mapped.populate(at, ready)).await;
                if let Err(error) = populated.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())) {
                    // After an error the body ends.
                    return Some((Err(error), (to, to)));
                }
            }
            let end = ready.min(at + CHUNK);
            Some((Ok(bytes.slice(at..end)), (end, ready)))
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_part_of_a_file_comes_out_whole_also_after_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let bytes: Vec<u8> = (0..9_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mappings = Mappings::default();
        let mapped = mappings.open(&path).unwrap();
        assert!(Arc::ptr_eq(&mapped, &mappings.open(&path).unwrap()), "one map for all");
        std::fs::remove_file(&path).unwrap();
        let parts: Vec<io::Result<Bytes>> = stream(mapped, 1000, 8_999_999).collect().await;
        let parts: Vec<Bytes> = parts.into_iter().map(Result::unwrap).collect();
        assert!(parts.iter().all(|part| part.len() <= CHUNK));
        assert!(parts.concat() == bytes[1000..8_999_999]);
        assert_eq!(mappings.find(&parts[1]).unwrap().1, 1000 + parts[0].len());
        assert!(mappings.find(&bytes).is_none() && mappings.find(b"").is_none());
    }
}
