//! In which form a module takes an image fastest: a model of the way from the station's disk to the medium. Pure.
//!
//! A Compute Module 4 with the stock initramfs decodes on one core while it writes; the line is shared. The slowest of
//! the three decides. Figures in MB/s; those of the decoders are for bytes that are not zero.

use crate::core::image::{Compression, Image};

/// Gigabit Ethernet, with its frames and headers taken off.
const LINE: u64 = 117;
/// Sequential write of the eMMC of a Compute Module 4.
const MEDIUM: u64 = 60;
/// Modules that are written at the same time. Beyond about twenty the line is the limit, and the smallest file wins.
const AT_ONCE: u64 = 8;
/// Smaller images are written in seconds in any form.
const WORTH_IT: u64 = 64 << 20;

/// Busybox on one core; 21.5 MB/s with zeros was seen for xz, the others by their ratio to it.
const fn decoder(form: Compression) -> Option<u64> {
    match form {
        Compression::Raw => Some(u64::MAX),
        Compression::Gz => Some(30),
        Compression::Xz => Some(18),
        Compression::Bz2 => Some(7),
        Compression::Zstd => None,
    }
}

/// How long it takes in microseconds; nothing where the module cannot decode it.
fn micros(image: &Image, form: Compression, size_bytes: u64) -> Option<u64> {
    let data = image.raw_size_bytes.saturating_sub(image.survey.zero_bytes);
    let decode = data / decoder(form)?;
    Some(decode.max(image.raw_size_bytes / MEDIUM).max(AT_ONCE * size_bytes / LINE))
}

/// How large its gzip form will be: what was seen of a Debian system, from the size of the other forms.
fn guess(image: &Image) -> u64 {
    let data = image.raw_size_bytes.saturating_sub(image.survey.zero_bytes);
    match image.compression {
        Compression::Raw => data * 2 / 5,
        Compression::Gz => image.size_bytes,
        Compression::Xz => image.size_bytes * 8 / 5,
        Compression::Bz2 => image.size_bytes * 6 / 5,
        Compression::Zstd => image.size_bytes * 11 / 10,
    }
}

/// Is it worth making the gzip form, before its size is known? The answer to the second is how large it may become.
pub fn wants_gzip(image: &Image) -> Option<u64> {
    let size = guess(image);
    serves_better(image, size).then_some(size)
}

/// Is gzip of this size better than the file that was uploaded?
pub fn serves_better(image: &Image, gzip_bytes: u64) -> bool {
    if image.compression == Compression::Gz {
        return false;
    }
    let gzip = micros(image, Compression::Gz, gzip_bytes);
    match micros(image, image.compression, image.size_bytes) {
        None => true,
        Some(original) => image.raw_size_bytes >= WORTH_IT && gzip.is_some_and(|gzip| gzip < original),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::image::{Digest, Survey};
    use crate::core::time::Timestamp;

    const MB: u64 = 1_000_000;

    fn image(compression: Compression, size: u64, raw: u64, zero: u64) -> Image {
        Image {
            id: Digest::new([1; 32]),
            name: "a.img".to_owned(),
            size_bytes: size * MB,
            compression,
            raw_sha256: Digest::new([2; 32]),
            raw_size_bytes: raw * MB,
            survey: Survey { zero_bytes: zero * MB, ..Survey::default() },
            added_at: Timestamp::default(),
        }
    }

    #[test]
    fn a_system_image_goes_out_as_gzip_and_what_is_small_as_it_is() {
        // The figures of a Debian image of 3352 MB, 43 % of it zero.
        for (form, size) in [(Compression::Xz, 419), (Compression::Zstd, 544), (Compression::Bz2, 600)] {
            let debian = image(form, size, 3352, 1458);
            assert!(wants_gzip(&debian).is_some() && serves_better(&debian, 662 * MB), "{form:?}");
        }
        assert!(serves_better(&image(Compression::Raw, 3352, 3352, 1458), 662 * MB));
        assert!(!serves_better(&image(Compression::Gz, 662, 3352, 1458), 600 * MB));
        assert_eq!(wants_gzip(&image(Compression::Xz, 1, 30, 0)), None);
        assert!(wants_gzip(&image(Compression::Zstd, 1, 2, 0)).is_some(), "a module cannot decode it");
    }

    #[test]
    fn what_does_not_pack_stays_as_it_is() {
        let noise = image(Compression::Raw, 1000, 1000, 0);
        assert!(!serves_better(&noise, 1000 * MB));
    }
}
