//! The image of a boot EEPROM as a chain of sections: `magic, length` (big-endian), payload, on to the next multiple
//! of 8. Learned from Raspberry Pi's `rpi-eeprom-config` and from images; no document tells it.

use std::ops::Range;

use crate::core::firmware::Chip;
use crate::core::image::Digest;
use crate::core::time::Timestamp;

const MAGIC_MASK: u32 = 0xffff_f00f;
const BOOTCODE: u32 = 0x55aa_f00f;
const PADDING: u32 = 0x55aa_feef;
/// A file that may be changed: `bootconf.txt`, `pubkey.bin`, ..
const FILE: u32 = 0x55aa_f11f;
const RAW_FILE: u32 = 0x55aa_f33f;
const LZ4_FILE: u32 = 0x55aa_f44f;

/// Magic and length.
const HEADER: usize = 8;
/// Name and four zeros, part of the length of a file.
const NAME: usize = 16;
/// The largest file: what `rpi-eeprom-config` takes.
const LARGEST: usize = 4076;
/// What can be erased at once. The last one of the flash is the bootloader's own.
const SECTOR: usize = 4096;
const BOOTCONF: &str = "bootconf.txt";

/// A 2712 of 2025 and later: 64 KiB that are read-only, and two partitions of 988 KiB of which one boots.
const PARTITION_A: usize = 0x1_0000;
const PARTITION_B: usize = 0x10_7000;
const PARTITIONS_END: usize = 0x1f_e000;

/// What is not an EEPROM image, or does not go into one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("an EEPROM image has 524288 bytes (2711) or 2097152 bytes (2712), this has {0}")]
    Size(usize),
    #[error("not an EEPROM image: no section begins at byte {offset:#x} ({magic:#010x})")]
    Magic { offset: usize, magic: u32 },
    #[error("not an EEPROM image: the section at byte {offset:#x} is longer than what is left")]
    Length { offset: usize },
    #[error("the EEPROM image has no bootconf.txt")]
    NoBootconf,
    #[error("the bootconf.txt of the EEPROM image is not text")]
    NotText,
    #[error("a bootconf.txt of {bytes} bytes does not fit into the EEPROM image: at most {room}")]
    TooLong { bytes: usize, room: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    magic: u32,
    offset: usize,
    /// Behind the header.
    length: usize,
    name: Option<String>,
}

impl Section {
    /// Of a file: behind its name.
    fn content(&self) -> Range<usize> {
        self.offset + HEADER + NAME..self.offset + HEADER + self.length.max(NAME)
    }

    const fn end(&self) -> usize {
        (self.offset + HEADER + self.length).next_multiple_of(8)
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

/// An image that was read and makes sense.
#[derive(Clone, Debug)]
pub struct Eeprom {
    bytes: Vec<u8>,
    chip: Chip,
    sections: Vec<Section>,
    /// Each `bootconf.txt`, as an index: a 2712 may have one a partition. Never empty.
    configs: Vec<usize>,
}

impl Eeprom {
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Fault> {
        let chip = Chip::of_size(bytes.len()).ok_or(Fault::Size(bytes.len()))?;
        let mut sections = Vec::new();
        let end = chain(&bytes, 0, &mut sections)?;
        if sections.first().is_none_or(|first| first.magic != BOOTCODE) {
            return Err(Fault::Magic { offset: 0, magic: word(&bytes, 0).unwrap_or_default() });
        }
        // The chain of the first partition may end before the second begins.
        let second = word(&bytes, PARTITION_B).is_some_and(|magic| magic & MAGIC_MASK == BOOTCODE);
        if chip == Chip::Bcm2712 && end <= PARTITION_B && second {
            chain(&bytes, PARTITION_B, &mut sections)?;
        }
        let config = |section: &Section| section.magic == FILE && section.is_named(BOOTCONF);
        let configs: Vec<usize> =
            sections.iter().enumerate().filter(|(_, section)| config(section)).map(|(at, _)| at).collect();
        let eeprom = Self { bytes, chip, sections, configs };
        if eeprom.configs.is_empty() {
            return Err(Fault::NoBootconf);
        }
        eeprom.bootconf()?;
        Ok(eeprom)
    }

    pub const fn chip(&self) -> Chip {
        self.chip
    }

    pub fn bootconf(&self) -> Result<&str, Fault> {
        let first = self.configs.first().and_then(|at| self.sections.get(*at)).ok_or(Fault::NoBootconf)?;
        let content = self.bytes.get(first.content()).ok_or(Fault::Length { offset: first.offset })?;
        std::str::from_utf8(content).map_err(|_| Fault::NotText)
    }

    /// How many bytes of `bootconf.txt` there is room for.
    pub fn room(&self) -> usize {
        let room = |at: &usize| {
            let free = self.limit(*at).end.saturating_sub(self.sections[*at].content().start);
            free.min(LARGEST)
        };
        self.configs.iter().map(room).min().unwrap_or(0)
    }

    /// The image with another `bootconf.txt`, in each of its partitions.
    pub fn with_bootconf(&self, text: &[u8]) -> Result<Vec<u8>, Fault> {
        let room = self.room();
        if text.len() > room {
            return Err(Fault::TooLong { bytes: text.len(), room });
        }
        let mut bytes = self.bytes.clone();
        for at in &self.configs {
            self.replace(*at, text, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// As `rpi-eeprom-config` does it, with two differences. A gap of exactly eight bytes becomes an empty padding
    /// section too: filled with ones it would read as the end of the image. And nothing beyond the file's own sector
    /// and padding is erased, since behind it may be another partition.
    fn replace(&self, at: usize, text: &[u8], bytes: &mut [u8]) -> Result<(), Fault> {
        let section = &self.sections[at];
        let limit = self.limit(at);
        let end = section.content().start + text.len();
        let refuse = || Fault::TooLong { bytes: text.len(), room: self.room() };
        let length = u32::try_from(NAME + text.len()).map_err(|_| refuse())?;
        put(bytes, section.offset + 4, &length.to_be_bytes()).ok_or_else(refuse)?;
        put(bytes, section.content().start, text).ok_or_else(refuse)?;
        let erased = match limit.kind {
            LimitKind::Followed => limit.end,
            LimitKind::Last => limit.end.min(section.end().max(end).next_multiple_of(SECTOR)),
        };
        bytes.get_mut(end..erased).ok_or_else(refuse)?.fill(0xff);
        let padding = end.next_multiple_of(8);
        let gap = erased.saturating_sub(padding);
        if limit.kind == LimitKind::Followed && gap >= HEADER {
            put(bytes, padding, &PADDING.to_be_bytes()).ok_or_else(refuse)?;
            let length = u32::try_from(gap - HEADER).map_err(|_| refuse())?;
            put(bytes, padding + 4, &length.to_be_bytes()).ok_or_else(refuse)?;
        }
        Ok(())
    }

    /// Up to where a section may grow: over padding, but not into anything else.
    fn limit(&self, at: usize) -> Limit {
        let section = &self.sections[at];
        let scratch = self.bytes.len() - SECTOR;
        let mut padded = None;
        for next in &self.sections[at + 1..] {
            // The chain of the second partition does not go on where that of the first has ended.
            if next.offset != padded.unwrap_or_else(|| section.end()) {
                break;
            }
            if next.magic != PADDING {
                return Limit { end: next.offset.min(scratch), kind: LimitKind::Followed };
            }
            padded = Some(next.end());
        }
        if let Some(end) = padded {
            return Limit { end: end.min(scratch), kind: LimitKind::Followed };
        }
        let partitioned = self.chip == Chip::Bcm2712 && self.sections.iter().any(|other| other.offset == PARTITION_A);
        let end = match (partitioned, section.offset < PARTITION_B) {
            (true, true) => PARTITION_B,
            (true, false) => PARTITIONS_END,
            (false, _) => scratch,
        };
        Limit { end, kind: LimitKind::Last }
    }

    /// When it was built, in seconds since 1970. Of several builds in one image the newest counts.
    pub fn built(&self) -> Option<u32> {
        let numbers = behind(&self.bytes, b"BUILD_TIMESTAMP=", u8::is_ascii_digit);
        numbers.filter_map(|digits| digits.parse().ok()).max().or_else(|| self.updated())
    }

    /// When its maker says that it was released: what a self-update of the bootloader compares.
    pub fn updated(&self) -> Option<u32> {
        let files = self.sections.iter().filter(|section| section.is_named("updatetime"));
        let last = self.bytes.len() - HEADER;
        let places = files.map(|section| section.content().start).chain([last]);
        let moment = |at: usize| {
            let (inverse, time) = (little(&self.bytes, at)?, little(&self.bytes, at + 4)?);
            (inverse == !time && time != u32::MAX).then_some(time)
        };
        places.filter_map(moment).max()
    }

    /// `2026-08-04 8ba17717`
    pub fn version(&self) -> String {
        let day = self.built().map(day);
        let commit = behind(&self.bytes, b"VERSION:", u8::is_ascii_hexdigit).find(|commit| commit.len() >= 8);
        let known = [day.as_deref(), commit.and_then(|commit| commit.get(..8))];
        match known.into_iter().flatten().collect::<Vec<_>>().join(" ") {
            none if none.is_empty() => "unknown".to_owned(),
            version => version,
        }
    }
}

/// `2026-08-04`
fn day(seconds: u32) -> String {
    let text = Timestamp::from_millis(i64::from(seconds) * 1000).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// The text of `pieeprom.sig`, with which a bootloader takes an image in by itself: without a signature.
pub fn signature(sha256: &Digest, updated: u32) -> String {
    format!("{sha256}\nts: {updated}\n")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LimitKind {
    Followed,
    Last,
}

struct Limit {
    end: usize,
    kind: LimitKind,
}

/// Reads sections from `offset` to the end of their chain, and says where that is.
fn chain(bytes: &[u8], mut offset: usize, sections: &mut Vec<Section>) -> Result<usize, Fault> {
    while let (Some(magic), Some(length)) = (word(bytes, offset), word(bytes, offset + 4)) {
        if magic == 0 || magic == u32::MAX {
            break;
        }
        if magic & MAGIC_MASK != BOOTCODE {
            return Err(Fault::Magic { offset, magic });
        }
        let length = length as usize;
        let end = offset + HEADER + length;
        let named = [FILE, RAW_FILE, LZ4_FILE].contains(&magic);
        if end > bytes.len() || (named && length < NAME) {
            return Err(Fault::Length { offset });
        }
        let name = named.then(|| name_of(&bytes[offset + HEADER..offset + HEADER + NAME]));
        sections.push(Section { magic, offset, length, name });
        offset = end.next_multiple_of(8);
    }
    Ok(offset)
}

fn name_of(field: &[u8]) -> String {
    let name = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    word(bytes, at).map(u32::swap_bytes)
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + what.len())?.copy_from_slice(what);
    Some(())
}

/// Every run of such characters behind a word.
fn behind<'a>(bytes: &'a [u8], word: &'static [u8], fits: fn(&u8) -> bool) -> impl Iterator<Item = &'a str> {
    let places = bytes.windows(word.len()).enumerate().filter(move |(_, window)| *window == word);
    places.filter_map(move |(at, _)| {
        let rest = &bytes[at + word.len()..];
        let run = rest.iter().take(64).take_while(|byte| fits(byte)).count();
        std::str::from_utf8(&rest[..run]).ok()
    })
}

#[cfg(test)]
pub mod tests;
