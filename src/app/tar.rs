//! A tape archive, as far as a backup needs one: plain files with short names (POSIX ustar, sizes over 8 GiB as GNU
//! writes them), so that any `tar` can look into it.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// The largest size that fits into eleven octal digits.
const OCTAL: u64 = (1 << 33) - 1;

/// Writes one file.
pub fn append(archive: &mut impl Write, name: &str, size: u64, content: &mut impl Read) -> io::Result<()> {
    archive.write_all(&header(name, size)?)?;
    let copied = io::copy(&mut content.take(size), archive)?;
    if copied != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} became shorter while it was read")));
    }
    archive.write_all(&vec![0; padding(size)])
}

/// The end of an archive.
pub fn finish(archive: &mut impl Write) -> io::Result<()> {
    archive.write_all(&[0; 2 * BLOCK])
}

/// The name and the size of the next file, or nothing at the end. Its content comes next, then `skip_padding`.
pub fn next(archive: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let mut block = [0; BLOCK];
    archive.read_exact(&mut block).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => broken(),
        _ => error,
    })?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let told = octal(&block[148..156]).ok_or_else(broken)?;
    if told != checksum(&block) || &block[257..262] != b"ustar" || ![b'0', 0].contains(&block[156]) {
        return Err(broken());
    }
    let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| broken())?.to_owned();
    let size = match block[124] {
        0x80 => u64::from_be_bytes(block[128..136].try_into().map_err(|_| broken())?),
        _ => octal(&block[124..136]).ok_or_else(broken)?,
    };
    Ok(Some((name, size)))
}

pub fn skip_padding(archive: &mut impl Read, size: u64) -> io::Result<()> {
    archive.read_exact(&mut vec![0; padding(size)])
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    if name.len() >= 100 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a name of {} bytes", name.len())));
    }
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size {
        ..=OCTAL => put(124, format!("{size:011o}\0").as_bytes()),
        _ => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, b"00000000000\0");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// The sum of all bytes, with spaces in the place of the sum.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    block.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a backup, or a broken one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut archive = Vec::new();
        for (name, content) in [("manifest.json", &b"{}"[..]), ("a", &[7; 512]), ("b", &[])] {
            append(&mut archive, name, content.len() as u64, &mut &*content).unwrap();
        }
        finish(&mut archive).unwrap();
        assert_eq!(archive.len() % BLOCK, 0);
        let mut reader = &*archive;
        for (name, content) in [("manifest.json", &b"{}"[..]), ("a", &[7; 512]), ("b", &[])] {
            let (found, size) = next(&mut reader).unwrap().unwrap();
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            reader.read_exact(&mut bytes).unwrap();
            skip_padding(&mut reader, size).unwrap();
            assert_eq!((found.as_str(), bytes.as_slice()), (name, content));
        }
        assert!(next(&mut reader).unwrap().is_none());
    }

    #[test]
    fn sizes_of_any_length_are_kept() {
        for size in [0, 1, OCTAL, OCTAL + 1, 1 << 40] {
            let block = header("images/x", size).unwrap();
            assert_eq!(next(&mut &block[..]).unwrap().unwrap().1, size);
        }
    }

    #[test]
    fn a_broken_header_is_told_and_never_believed() {
        let mut block = header("bootline.db", 512).unwrap();
        block[130] ^= 1;
        assert!(next(&mut &block[..]).is_err());
        assert!(next(&mut &b"short"[..]).is_err());
    }
}
