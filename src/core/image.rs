//! Images: named by the hash of the file as it was uploaded, proven by the hash of what is written.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::text::serde_by_text;
use crate::core::time::Timestamp;

/// A SHA-256: 64 lower-case hex digits. The id of an image is the digest of the uploaded file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a sha256 of 64 hex digits: {text:?}");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

serde_by_text!(Digest);

/// How the file is packed, by its content, not by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    Raw,
    Xz,
    Gz,
    Bz2,
    Zstd,
}

impl Compression {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Xz => "xz",
            Self::Gz => "gz",
            Self::Bz2 => "bz2",
            Self::Zstd => "zstd",
        }
    }
}

/// What the plain bytes of an image show, besides their hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Survey {
    /// Nothing where there is no partition table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionTable>,
    /// Bytes in chunks of the zero map that are zero throughout.
    #[serde(default)]
    pub zero_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionTable {
    /// Of the table.
    pub scheme: Scheme,
    /// In the order of the table.
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    Mbr,
    Gpt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// As the kernel counts: `p1` is 1.
    pub index: u32,
    /// Two hex digits of an MBR, or the type GUID of a GPT.
    pub kind: String,
    /// From the start of the medium, in bytes.
    pub start_bytes: u64,
    /// In bytes.
    pub size_bytes: u64,
    /// Of a GPT entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The grid of the zero map. A finer one finds no more than a hundredth more zeros in an image of Debian.
pub const ZERO_CHUNK: usize = 4 << 20;

/// Which chunks of an image are zero throughout: a medium must read zero there, but need not be sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroMap {
    pub chunk_bytes: u64,
    /// Runs of zero chunks: the first, and how many.
    pub zero: Vec<(u32, u32)>,
}

/// Another form of an image, made by the station because modules take it faster; proven to decode to the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Form {
    /// How it is packed.
    pub compression: Compression,
    /// Of the packed file, in bytes.
    pub size_bytes: u64,
    /// Of the packed file.
    pub sha256: Digest,
}

/// What becomes of an image while it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Keeping {
    /// Served in place of the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// Its file is not what was taken in: what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// When its file was last found to be what it should be, or not to be.
    #[serde(default)]
    pub checked_at: Timestamp,
}

/// The form in which an image goes out to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    pub compression: Compression,
    pub size_bytes: u64,
    pub transcoded: bool,
}

/// One image that was taken in whole: its file is in the library, decoded once and hashed both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// SHA-256 of the file as it was uploaded.
    pub id: Digest,
    /// The name it was given, as written; for people, never a path.
    pub name: String,
    /// Of the uploaded file, in bytes.
    pub size_bytes: u64,
    /// Of the uploaded file.
    pub compression: Compression,
    /// SHA-256 of the decoded bytes: what a read-back of the medium must give.
    pub raw_sha256: Digest,
    /// Size of the decoded bytes: a multiple of 512.
    pub raw_size_bytes: u64,
    #[serde(flatten)]
    pub survey: Survey,
    /// When it was taken in.
    pub added_at: Timestamp,
}
