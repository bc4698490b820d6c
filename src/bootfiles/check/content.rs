//! Whether a file is what its name says, by its size and its first bytes: a saved error page and a kernel for the other
//! architecture are both seen in the field.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::bootfiles::check::{Finding, Level};

/// What a kernel must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Bits64,
    Bits32,
    /// By the firmware's version.
    Either,
}

/// Looks at a file that is found: its size against the time of a download, its bytes against its name.
pub fn look(name: &str, file: &File, size: u64, width: Option<Width>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |level, text: String| findings.push(Finding::new(level, format!("{name} {text}")));
    if size == 0 {
        say(Level::Fault, "is empty".to_owned());
        return findings;
    }
    match size {
        _ if size > MOST_BLOCKS => {
            say(
                Level::Fault,
                format!("has {size} bytes: firmware before 2025-09-23 counts no further than {MOST_BLOCKS}"),
            );
        }
        _ if size > SLOW => {
            say(Level::Warning, format!("has {size} bytes: a bootloader gives a file 30 s and takes about 3 MB/s"));
        }
        _ => {}
    }
    let mut head = [0; 64];
    let read = match read_head(file, &mut head) {
        Ok(read) => read,
        Err(error) => {
            say(Level::Fault, format!("cannot be read: {error}"));
            return findings;
        }
    };
    if let Some(wrong) = wrong(name, &head[..read], width) {
        say(Level::Fault, wrong.to_owned());
    }
    findings
}

fn read_head(file: &File, head: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < head.len() {
        match file.read_at(&mut head[read..], read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn wrong(name: &str, head: &[u8], width: Option<Width>) -> Option<&'static str> {
    // arm64 Image (Documentation/arch/arm64/booting.rst): "ARM\x64" at 56. The firmware also unpacks gzip.
    let bits64 = head.get(56..60) == Some(b"ARM\x64");
    let packed = head.starts_with(&[0x1f, 0x8b]);
    let extension = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match (extension.as_str(), width) {
        ("elf", _) if !head.starts_with(b"\x7fELF") => Some("is not an ELF file"),
        ("dtb" | "dtbo", _) if !head.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) => Some("is not a device tree"),
        (_, Some(Width::Bits64)) if !bits64 && !packed => {
            Some("is not a 64-bit kernel, and this board starts it as one")
        }
        (_, Some(Width::Bits32)) if bits64 => Some("is a 64-bit kernel, and config.txt says arm_64bit=0"),
        _ => None,
    }
}

/// 30 s at the 3 MB/s of a lock-step transfer would be 90 MB; half of it leaves room for a busy line.
const SLOW: u64 = 40_000_000;
/// 65535 blocks of 1468 bytes.
const MOST_BLOCKS: u64 = 65_535 * 1468;
