//! An image comes in: each chunk is written and hashed as it arrives. What is held in memory does not depend on the
//! size of the image. What is inside is looked at afterwards, in one pass (`survey`). No runtime, no clock.

use std::io;

use sha2::{Digest as _, Sha256};

use crate::core::image::Digest;
use crate::core::refusal::Refusal;
use crate::images::decode::{LONGEST_MAGIC, recognise};
use crate::images::library::Part;
use crate::images::survey::MAX_RAW;

/// What is known of a file that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub id: Digest,
    pub size_bytes: u64,
}

/// One image on its way in.
pub struct Intake {
    part: Part,
    hash: Sha256,
    size: u64,
    /// Its first bytes, until they were looked at: what nobody can decode is refused before it has come in whole.
    head: Option<Vec<u8>>,
}

impl Intake {
    pub fn new(part: Part) -> Self {
        Self { part, hash: Sha256::new(), size: 0, head: Some(Vec::new()) }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if let Some(head) = &mut self.head {
            head.extend_from_slice(&bytes[..bytes.len().min(LONGEST_MAGIC - head.len())]);
            if head.len() == LONGEST_MAGIC {
                recognise(head)?;
                self.head = None;
            }
        }
        self.size += bytes.len() as u64;
        if self.size > MAX_RAW {
            return Err(Refusal::new(413, "too_large", format!("the image is larger than {MAX_RAW} bytes")));
        }
        self.hash.update(bytes);
        self.part.write(bytes).map_err(|error| refusal_of(&error))
    }

    /// The last byte was fed: is it the file that was announced?
    pub fn finish(self, expected: Option<Digest>) -> Result<(Part, Taken), Refusal> {
        if self.size == 0 {
            return Err(Refusal::new(400, "empty", "the image has no bytes"));
        }
        let id = Digest::new(self.hash.finalize().into());
        announced(id, expected)?;
        Ok((self.part, Taken { id, size_bytes: self.size }))
    }
}

/// Said before what is wrong with the content: a wrong digest is the reason of most of that.
pub fn announced(id: Digest, expected: Option<Digest>) -> Result<(), Refusal> {
    match expected.filter(|expected| *expected != id) {
        None => Ok(()),
        Some(expected) => {
            let detail = format!("the image has the sha256 {id}, announced was {expected}");
            Err(Refusal::new(400, "sha256_mismatch", detail))
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
