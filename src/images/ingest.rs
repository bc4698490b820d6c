//! An image comes in: each chunk is written, hashed and, where it is packed, decoded and hashed again, once. What is
//! held in memory does not depend on the size of the image. No runtime, no clock.

use std::io;

use sha2::{Digest as _, Sha256};
use xz2::stream::{Action, CONCATENATED, Error as XzError, Status, Stream};

use crate::core::image::{Compression, Digest};
use crate::core::refusal::Refusal;
use crate::images::library::Part;

/// Enough for `xz -9` (64 MiB), and still little beside what a module has.
const XZ_MEMORY: u64 = 256 << 20;
/// A few kilobytes of xz can decode to anything; no medium of a module is larger.
const MAX_RAW: u64 = 1 << 40;
const DECODED: usize = 256 << 10;

/// What is known of an image that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: Digest,
    pub size_bytes: u64,
    pub compression: Compression,
    pub raw_sha256: Digest,
    pub raw_size_bytes: u64,
}

/// One image on its way in.
pub struct Intake {
    part: Part,
    whole: Tally,
    body: Body,
}

/// The form is told by the content, never by the name of a file.
enum Body {
    /// Fewer bytes than the longest magic number has.
    Unknown(Vec<u8>),
    Raw,
    Xz(Box<Unpacking>),
}

impl Intake {
    pub fn new(part: Part) -> Self {
        Self { part, whole: Tally::default(), body: Body::Unknown(Vec::new()) }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.part.write(bytes).map_err(|error| refusal_of(&error))?;
        self.whole.add(bytes)?;
        match &mut self.body {
            Body::Raw => Ok(()),
            Body::Xz(unpacking) => unpacking.feed(bytes),
            Body::Unknown(head) => {
                head.extend_from_slice(bytes);
                if head.len() < LONGEST_MAGIC { Ok(()) } else { self.recognise() }
            }
        }
    }

    fn recognise(&mut self) -> Result<(), Refusal> {
        let Body::Unknown(head) = &mut self.body else { return Ok(()) };
        let head = std::mem::take(head);
        self.body = Body::Raw;
        if head.starts_with(XZ_MAGIC) {
            let mut unpacking = Box::new(Unpacking::new()?);
            unpacking.feed(&head)?;
            self.body = Body::Xz(unpacking);
        } else if let Some((_, form)) = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)) {
            let detail =
                format!("the image is packed as {form}; this station takes xz and plain images: repack it with xz");
            return Err(Refusal::new(415, "unsupported_compression", detail));
        }
        Ok(())
    }

    /// The last byte was fed: is it an image, and the one that was announced?
    pub fn finish(mut self, expected: Option<Digest>) -> Result<(Part, Taken), Refusal> {
        if self.whole.size == 0 {
            return Err(Refusal::new(400, "empty", "the image has no bytes"));
        }
        self.recognise()?;
        let (id, size_bytes) = self.whole.total();
        // Said before what is wrong with the content: a wrong digest is the reason of most of that.
        if let Some(expected) = expected.filter(|expected| *expected != id) {
            let detail = format!("the image has the sha256 {id}, announced was {expected}");
            return Err(Refusal::new(400, "sha256_mismatch", detail));
        }
        let (compression, (raw_sha256, raw_size_bytes)) = match self.body {
            Body::Xz(unpacking) => (Compression::Xz, unpacking.finish()?),
            Body::Raw | Body::Unknown(_) => (Compression::Raw, (id, size_bytes)),
        };
        if raw_size_bytes == 0 {
            return Err(Refusal::new(400, "empty", "the image decodes to no bytes"));
        }
        if raw_size_bytes % 512 != 0 {
            let detail =
                format!("{raw_size_bytes} bytes are no multiple of 512: not the image of a disk, or not all of it");
            return Err(Refusal::new(400, "size_not_multiple_of_512", detail));
        }
        Ok((self.part, Taken { id, size_bytes, compression, raw_sha256, raw_size_bytes }))
    }
}

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const LONGEST_MAGIC: usize = 6;
const UNSUPPORTED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
];

/// Bytes counted and hashed.
#[derive(Default)]
struct Tally {
    hash: Sha256,
    size: u64,
}

impl Tally {
    fn add(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if self.size > MAX_RAW {
            return Err(Refusal::new(413, "too_large", format!("the image is larger than {MAX_RAW} bytes")));
        }
        Ok(())
    }

    fn total(&self) -> (Digest, u64) {
        (Digest::new(self.hash.clone().finalize().into()), self.size)
    }
}

/// An xz file being decoded. Files of several streams (`cat a.xz b.xz`, pixz) are one image: the decoder that is not
/// told so stops after the first stream without a word, and so does liblzma's threaded one.
struct Unpacking {
    stream: Stream,
    plain: Tally,
    buffer: Vec<u8>,
}

impl Unpacking {
    fn new() -> Result<Self, Refusal> {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(|error| broken(&error, 0))?;
        Ok(Self { stream, plain: Tally::default(), buffer: Vec::with_capacity(DECODED) })
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let before = self.stream.total_in();
            let status = self.step(bytes, Action::Run)?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(bytes.len());
            bytes = &bytes[taken..];
            if matches!(status, Status::MemNeeded | Status::StreamEnd) {
                return Err(broken(&XzError::Data, self.stream.total_in()));
            }
        }
        // A full buffer may hide more that is ready; it comes out with the next bytes, or at the end.
        Ok(())
    }

    fn finish(mut self) -> Result<(Digest, u64), Refusal> {
        loop {
            match self.step(&[], Action::Finish)? {
                Status::StreamEnd => return Ok(self.plain.total()),
                Status::Ok | Status::GetCheck => {}
                Status::MemNeeded => {
                    return Err(Refusal::new(400, "broken_xz", "the xz file is cut off: it ends in the middle"));
                }
            }
        }
    }

    fn step(&mut self, bytes: &[u8], action: Action) -> Result<Status, Refusal> {
        self.buffer.clear();
        let status = self.stream.process_vec(bytes, &mut self.buffer, action);
        let status = status.map_err(|error| broken(&error, self.stream.total_in()))?;
        self.plain.add(&self.buffer)?;
        Ok(status)
    }
}

fn broken(error: &XzError, at: u64) -> Refusal {
    match error {
        XzError::MemLimit | XzError::Mem => {
            let detail = format!("decoding it needs more than {} MiB; pack it with xz -9 or less", XZ_MEMORY >> 20);
            Refusal::new(415, "unsupported_compression", detail)
        }
        XzError::Options | XzError::UnsupportedCheck => {
            Refusal::new(415, "unsupported_compression", "the xz file uses filters that this station does not know")
        }
        XzError::Format => Refusal::new(400, "broken_xz", format!("what follows byte {at} of the file is not xz")),
        XzError::Data | XzError::Program | XzError::NoCheck => {
            Refusal::new(400, "broken_xz", format!("the xz file is damaged before byte {at}"))
        }
    }
}

/// Why the disk would not take it.
pub fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::new(507, "disk_full", "the disk of the station is full: delete images that no project uses")
                .retryable()
        }
        _ => {
            tracing::error!(%error, "cannot store an image");
            Refusal::new(500, "internal", "the image could not be stored; the station's log says why").retryable()
        }
    }
}

/// The name of an image is for people: any text, and never a path.
pub fn image_name(text: &str) -> Result<String, Refusal> {
    let name = text.trim();
    let wrong = |why: &str| Err(Refusal::invalid("/name", why));
    match name.chars().count() {
        0 => wrong("an image needs a name"),
        201.. => wrong("the name is longer than 200 characters"),
        _ if name.contains(char::is_control) => wrong("the name contains control characters"),
        _ => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests;
