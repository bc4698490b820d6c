//! A small disk image: a partition table, noise that does not compress, and zeros that do.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use xz2::stream::{Check, Stream};
use xz2::write::XzEncoder;

use crate::core::image::Digest;

#[derive(Clone, Debug)]
pub struct DemoImage {
    /// What each medium must begin with.
    pub raw: PathBuf,
    pub packed: PathBuf,
    pub packed_sha256: Digest,
    pub packed_bytes: u64,
}

/// Makes it in this folder. Blocks.
pub fn make(folder: &Path, bytes: u64) -> io::Result<DemoImage> {
    let (raw, packed) = (folder.join("demo.img"), folder.join("demo.img.xz"));
    // CRC32, because the xz of the stock initramfs verifies no other check.
    let stream = Stream::new_easy_encoder(1, Check::Crc32).map_err(io::Error::other)?;
    let mut encoder = XzEncoder::new_stream(File::create(&packed)?, stream);
    let mut plain = BufWriter::new(File::create(&raw)?);
    let mut noise = File::open("/dev/urandom")?;
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    for number in 0.. {
        if left == 0 {
            break;
        }
        fill(number, &mut block, &mut noise)?;
        let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        plain.write_all(&block[..length])?;
        encoder.write_all(&block[..length])?;
        left -= u64::try_from(length).unwrap_or(left);
    }
    plain.flush()?;
    encoder.finish()?.sync_all()?;
    let (packed_sha256, packed_bytes) = digest(&packed)?;
    Ok(DemoImage { raw, packed, packed_sha256, packed_bytes })
}

/// Every fourth block is noise, like the files of a system; the others are text or nothing.
fn fill(number: u64, block: &mut [u8], noise: &mut File) -> io::Result<()> {
    match number % 4 {
        0 => noise.read_exact(block)?,
        1 => block.fill(b'b'),
        _ => block.fill(0),
    }
    if number == 0 {
        block[510..512].copy_from_slice(&[0x55, 0xaa]);
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((Digest::new(hash.finalize().into()), bytes));
        }
        hash.update(&buffer[..length]);
        bytes += u64::try_from(length).unwrap_or(0);
    }
}

/// Does the medium begin with the image, byte for byte? Blocks.
pub fn holds(medium: &Path, image: &Path) -> io::Result<bool> {
    let (mut medium, mut image) = (File::open(medium)?, File::open(image)?);
    let (mut there, mut wanted) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let length = image.read(&mut wanted)?;
        if length == 0 {
            return Ok(true);
        }
        match medium.read_exact(&mut there[..length]) {
            Ok(()) if there[..length] == wanted[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

const BLOCK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_recognised_on_a_larger_medium_and_one_wrong_byte_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let image = make(folder.path(), 3 * 1024 * 1024 + 512).unwrap();
        let mut bytes = std::fs::read(&image.raw).unwrap();
        assert_eq!((bytes.len(), &bytes[510..512]), (3 * 1024 * 1024 + 512, &[0x55, 0xaa][..]));
        let medium = folder.path().join("medium");
        bytes.extend([7; 9999]);
        std::fs::write(&medium, &bytes).unwrap();
        assert!(holds(&medium, &image.raw).unwrap());
        bytes[2_000_000] ^= 1;
        std::fs::write(&medium, &bytes).unwrap();
        assert!(!holds(&medium, &image.raw).unwrap());
        std::fs::write(&medium, &bytes[..1000]).unwrap();
        assert!(!holds(&medium, &image.raw).unwrap());
        let mut decoded = Vec::new();
        xz2::read::XzDecoder::new(File::open(&image.packed).unwrap()).read_to_end(&mut decoded).unwrap();
        assert_eq!(decoded, std::fs::read(&image.raw).unwrap());
    }
}
