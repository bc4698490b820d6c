//! Images that are taken and images that are not.

use std::io::Write;

use proptest::prelude::*;
use xz2::stream::{Check, Filters, LzmaOptions};

use super::*;
use crate::images::library::Library;

fn fed(bytes: &[u8], chunk: usize, expected: Option<Digest>) -> Result<Taken, Refusal> {
    let data = tempfile::tempdir().unwrap();
    let library = Library::open(data.path()).unwrap();
    let mut intake = Intake::new(library.part().unwrap());
    bytes.chunks(chunk).try_for_each(|chunk| intake.feed(chunk))?;
    let (part, taken) = intake.finish(expected)?;
    library.place(part, taken.id).unwrap();
    assert!(std::fs::read(library.file(taken.id)).unwrap() == bytes);
    Ok(taken)
}

fn code(bytes: &[u8]) -> String {
    fed(bytes, 1000, None).unwrap_err().code
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn packed_by(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn packed(bytes: &[u8], check: Check) -> Vec<u8> {
    packed_by(Stream::new_easy_encoder(0, check).unwrap(), bytes)
}

fn disk(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at * at % 251).unwrap()).collect()
}

#[test]
fn a_plain_image_is_its_own_raw_form() {
    let raw = disk(5 * 512);
    for chunk in [1, 5, 6, 7, 100_000] {
        let taken = fed(&raw, chunk, Some(digest(&raw))).unwrap();
        assert_eq!((taken.id, taken.raw_sha256), (digest(&raw), digest(&raw)));
        assert_eq!((taken.size_bytes, taken.raw_size_bytes, taken.compression), (2560, 2560, Compression::Raw));
    }
}

#[test]
fn an_xz_image_is_decoded_whatever_its_check_and_its_chunks() {
    let raw = disk(1 << 20);
    for check in [Check::None, Check::Crc32, Check::Crc64, Check::Sha256] {
        let file = packed(&raw, check);
        for chunk in [1, 4096, file.len()] {
            let taken = fed(&file, chunk, None).unwrap();
            assert_eq!((taken.id, taken.size_bytes), (digest(&file), file.len() as u64));
            assert_eq!((taken.raw_sha256, taken.raw_size_bytes), (digest(&raw), raw.len() as u64));
            assert_eq!(taken.compression, Compression::Xz);
        }
    }
}

#[test]
fn streams_one_after_the_other_are_one_image() {
    let raw = disk(3_000_320);
    let (first, second) = raw.split_at(1_000_000);
    let padding = [0; 8];
    let file = [packed(first, Check::Crc64), padding.to_vec(), packed(second, Check::Crc32), padding.to_vec()].concat();
    for chunk in [100, 65_536, file.len()] {
        let taken = fed(&file, chunk, None).unwrap();
        assert_eq!((taken.raw_sha256, taken.raw_size_bytes), (digest(&raw), raw.len() as u64));
    }
}

#[test]
fn long_runs_of_zeros_come_out_in_whole() {
    let raw = vec![0; 16 << 20];
    let file = packed(&raw, Check::Crc64);
    assert_eq!(fed(&file, file.len(), None).unwrap().raw_size_bytes, raw.len() as u64);
}

#[test]
fn a_broken_xz_is_refused() {
    let raw = disk(100 * 512);
    let file = packed(&raw, Check::Crc64);
    for end in [6, 12, file.len() / 2, file.len() - 1] {
        assert_eq!(code(&file[..end]), "broken_xz", "cut at {end}");
    }
    let mut flipped = file.clone();
    flipped[file.len() / 2] ^= 1;
    assert_eq!(code(&flipped), "broken_xz");
    for garbage in [&b"garbage"[..], &[0; 3], b"\xfd7zXZ\0"] {
        assert_eq!(code(&[&file[..], garbage].concat()), "broken_xz", "{garbage:?}");
    }
}

#[test]
fn what_is_not_the_image_of_a_disk_is_refused() {
    assert_eq!(code(b""), "empty");
    assert_eq!(code(&packed(b"", Check::Crc64)), "empty");
    assert_eq!(code(&disk(513)), "size_not_multiple_of_512");
    assert_eq!(code(b"abc"), "size_not_multiple_of_512");
    assert_eq!(code(&packed(&disk(511), Check::Crc64)), "size_not_multiple_of_512");
}

#[test]
fn other_ways_of_packing_are_named() {
    for magic in ["\x1f\u{8b}", "BZh91AY", "PK\x03\x04\x14\0"] {
        let bytes: Vec<u8> = magic.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).chain([0; 512]).collect();
        assert_eq!(code(&bytes), "unsupported_compression");
    }
    assert_eq!(code(b"\x28\xb5\x2f\xfd\0\0\0"), "unsupported_compression");
    assert!(fed(&[0x1f, 0x8b], 2, None).unwrap_err().detail.contains("gzip"));
}

#[test]
fn an_xz_that_needs_too_much_memory_is_refused() {
    let mut options = LzmaOptions::new_preset(0).unwrap();
    options.dict_size(512 << 20);
    let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc64).unwrap();
    assert_eq!(code(&packed_by(stream, &disk(512))), "unsupported_compression");
}

#[test]
fn another_image_than_announced_is_refused() {
    let refusal = fed(&disk(512), 512, Some(digest(b"other"))).unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str()), (400, "sha256_mismatch"));
    // Also when it is cut: that is how a person sees what happened.
    let file = packed(&disk(51_200), Check::Crc64);
    let refusal = fed(&file[..100], 512, Some(digest(&file))).unwrap_err();
    assert_eq!(refusal.code, "sha256_mismatch");
}

#[test]
fn the_name_of_an_image_is_any_text_of_a_sane_length() {
    assert_eq!(image_name("  Raspberry Pi OS (64-bit)/é.img.xz ").unwrap(), "Raspberry Pi OS (64-bit)/é.img.xz");
    for wrong in ["", "   ", "a\nb", "a\0b", &"x".repeat(201)] {
        assert_eq!(image_name(wrong).unwrap_err().code, "invalid_params", "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_behind_an_xz_magic_are_refused_without_a_panic(bytes in any::<Vec<u8>>(), chunk in 1_usize..64) {
        let file = [XZ_MAGIC, &bytes].concat();
        prop_assert!(fed(&file, chunk, None).is_err());
    }
}
