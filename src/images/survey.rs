//! What there is to know of an image, from its plain bytes in one pass: hash, size, partitions, and where it is zero.
//! No runtime, no clock.

use std::io::{BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sha2::{Digest as _, Sha256};

use crate::core::image::{Compression, Digest, Survey, ZERO_CHUNK, ZeroMap};
use crate::core::refusal::Refusal;
use crate::images::decode::{self, LONGEST_MAGIC, Meter, Plain, Source};
use crate::images::table;

/// A few kilobytes can decode to anything; no medium of a module is larger.
pub const MAX_RAW: u64 = 1 << 40;
const DECODED: usize = 256 << 10;
/// Holds a GPT with its 128 entries, of disks with sectors of 512 or 4096 bytes.
const HEAD: usize = 64 << 10;

/// What is known of an image that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    pub compression: Compression,
    pub raw_sha256: Digest,
    pub raw_size_bytes: u64,
    pub survey: Survey,
    pub zeros: ZeroMap,
}

/// Decodes a file once. `id` is its digest: that of a plain image is not computed again.
pub fn survey<R: BufRead>(mut file: R, id: Digest, meter: &Arc<Meter>) -> Result<Surveyed, Refusal> {
    let disk = |error: std::io::Error| crate::images::ingest::refusal_of(&error);
    let mut magic = [0; LONGEST_MAGIC];
    let mut known = 0;
    while known < LONGEST_MAGIC {
        match file.read(&mut magic[known..]).map_err(disk)? {
            0 => break,
            count => known += count,
        }
    }
    let compression = decode::recognise(&magic[..known])?;
    let whole = std::io::Cursor::new(magic[..known].to_vec()).chain(file);
    let wrong = |error: std::io::Error| decode::refusal(&error, compression, meter.done.load(Ordering::Relaxed));
    let mut plain = Plain::new(Source::new(whole, Arc::clone(meter)), compression).map_err(wrong)?;
    let mut pass = Pass::new(compression != Compression::Raw);
    let mut buffer = vec![0; DECODED];
    loop {
        match plain.read(&mut buffer).map_err(wrong)? {
            0 => break,
            count => pass.add(&buffer[..count])?,
        }
    }
    pass.finish(compression, id)
}

struct Pass {
    hash: Option<Sha256>,
    size: u64,
    head: Vec<u8>,
    zeros: Zeros,
}

impl Pass {
    fn new(hashed: bool) -> Self {
        Self { hash: hashed.then(Sha256::new), size: 0, head: Vec::with_capacity(HEAD), zeros: Zeros::default() }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.size += bytes.len() as u64;
        if self.size > MAX_RAW {
            return Err(Refusal::new(413, "too_large", format!("the image is larger than {MAX_RAW} bytes")));
        }
        let wanted = (HEAD - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        self.zeros.add(bytes);
        Ok(())
    }

    fn finish(self, compression: Compression, id: Digest) -> Result<Surveyed, Refusal> {
        if self.size == 0 {
            return Err(Refusal::new(400, "empty", "the image decodes to no bytes"));
        }
        if !self.size.is_multiple_of(512) {
            let detail =
                format!("{} bytes are no multiple of 512: not the image of a disk, or not all of it", self.size);
            return Err(Refusal::new(400, "size_not_multiple_of_512", detail));
        }
        let (zeros, zero_bytes) = self.zeros.finish();
        Ok(Surveyed {
            compression,
            raw_sha256: self.hash.map_or(id, |hash| Digest::new(hash.finalize().into())),
            raw_size_bytes: self.size,
            survey: Survey { partitions: table::read(&self.head), zero_bytes },
            zeros,
        })
    }
}

/// Which chunks of the grid are zero throughout.
#[derive(Default)]
struct Zeros {
    map: Vec<(u32, u32)>,
    bytes: u64,
    chunk: u32,
    /// Of the chunk that is being filled.
    filled: usize,
    data: bool,
}

impl Zeros {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(ZERO_CHUNK - self.filled));
            self.data = self.data || !is_zero(part);
            self.filled += part.len();
            if self.filled == ZERO_CHUNK {
                self.end_chunk();
            }
            bytes = rest;
        }
    }

    fn end_chunk(&mut self) {
        if !self.data {
            self.bytes += self.filled as u64;
            match self.map.last_mut() {
                Some((first, count)) if *first + *count == self.chunk => *count += 1,
                _ => self.map.push((self.chunk, 1)),
            }
        }
        self.chunk += 1;
        self.filled = 0;
        self.data = false;
    }

    fn finish(mut self) -> (ZeroMap, u64) {
        if self.filled > 0 {
            self.end_chunk();
        }
        (ZeroMap { chunk_bytes: ZERO_CHUNK as u64, zero: self.map }, self.bytes)
    }
}

/// In blocks that the compiler turns into wide instructions, and with an early end.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests;
