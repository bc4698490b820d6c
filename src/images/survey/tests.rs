//! Images of every form, whole, broken and hostile.

use std::io::{BufReader, Write};

use proptest::prelude::*;
use xz2::stream::{Check, Filters, LzmaOptions, Stream};

use super::*;

fn surveyed_in(bytes: &[u8], chunk: usize) -> Result<Surveyed, Refusal> {
    survey(BufReader::with_capacity(chunk, bytes), digest(bytes), &Arc::default())
}

fn surveyed(bytes: &[u8]) -> Result<Surveyed, Refusal> {
    surveyed_in(bytes, 4096)
}

fn code(bytes: &[u8]) -> String {
    surveyed(bytes).unwrap_err().code
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn xz_by(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8], check: Check) -> Vec<u8> {
    xz_by(Stream::new_easy_encoder(0, check).unwrap(), bytes)
}

/// Many blocks, so that the threads have something to share.
fn xz_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut builder = xz2::stream::MtStreamBuilder::new();
    let stream = builder.threads(2).block_size(64 << 10).preset(0).check(Check::Crc64).encoder().unwrap();
    xz_by(stream, bytes)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const SKIPPABLE: &[u8] = b"\x50\x2a\x4d\x18\x04\0\0\0abcd";

type Pack = fn(&[u8]) -> Vec<u8>;
const FORMS: [(Compression, Pack); 5] = [
    (Compression::Xz, |bytes| xz(bytes, Check::Crc64)),
    (Compression::Xz, xz_blocks),
    (Compression::Gz, gz),
    (Compression::Bz2, bz2),
    (Compression::Zstd, zstd),
];

fn disk(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at * at % 251).unwrap()).collect()
}

#[test]
fn a_plain_image_is_its_own_raw_form() {
    let raw = disk(5 * 512);
    let found = surveyed(&raw).unwrap();
    assert_eq!((found.raw_sha256, found.raw_size_bytes, found.compression), (digest(&raw), 2560, Compression::Raw));
}

#[test]
fn every_form_is_decoded_whatever_its_chunks() {
    let raw = disk(1 << 20);
    for (form, pack) in FORMS {
        let file = pack(&raw);
        for chunk in [1, 7, 4096, file.len()] {
            let found = surveyed_in(&file, chunk).unwrap();
            assert_eq!((found.raw_sha256, found.raw_size_bytes), (digest(&raw), raw.len() as u64), "{form:?} {chunk}");
            assert_eq!(found.compression, form);
        }
    }
    for check in [Check::None, Check::Crc32, Check::Crc64, Check::Sha256] {
        assert_eq!(surveyed(&xz(&raw, check)).unwrap().raw_sha256, digest(&raw));
    }
}

#[test]
fn streams_one_after_the_other_are_one_image() {
    let raw = disk(3_000_320);
    let (first, second) = raw.split_at(1_000_000);
    let padding: &[u8] = &[0; 8];
    let files = FORMS.map(|(form, pack)| match form {
        Compression::Xz => [&pack(first), padding, &pack(second), padding].concat(),
        Compression::Zstd => [SKIPPABLE, &pack(first), SKIPPABLE, &pack(second), SKIPPABLE].concat(),
        _ => [pack(first), pack(second)].concat(),
    });
    for file in files {
        for chunk in [100, 65_536, file.len()] {
            let found = surveyed_in(&file, chunk).unwrap();
            assert_eq!((found.raw_sha256, found.raw_size_bytes), (digest(&raw), raw.len() as u64));
        }
    }
}

#[test]
fn a_broken_file_is_refused_by_the_name_of_its_form() {
    let raw = disk(1000 * 512);
    for (form, pack) in FORMS {
        let file = pack(&raw);
        let broken = format!("broken_{}", form.as_str());
        for end in [6, 12, file.len() / 2, file.len() - 4, file.len() - 1] {
            assert_eq!(code(&file[..end]), broken, "{form:?} cut at {end}");
        }
        let mut flipped = file.clone();
        flipped[file.len() / 2] ^= 1;
        assert_eq!(code(&flipped), broken, "{form:?} flipped");
        for garbage in [&b"garbage"[..], &[0; 3], &file[..3]] {
            assert_eq!(code(&[&file, garbage].concat()), broken, "{form:?} followed by {garbage:?}");
        }
    }
    let sum = gz(&raw).len() - 8;
    let mut wrong = gz(&raw);
    wrong[sum] ^= 1;
    assert_eq!(code(&wrong), "broken_gz");
}

#[test]
fn what_is_not_the_image_of_a_disk_is_refused() {
    for (_, pack) in FORMS {
        assert_eq!(code(&pack(b"")), "empty");
        assert_eq!(code(&pack(&disk(511))), "size_not_multiple_of_512");
    }
    assert_eq!(code(&disk(513)), "size_not_multiple_of_512");
    assert_eq!(code(b"abc"), "size_not_multiple_of_512");
}

#[test]
fn a_file_that_needs_too_much_memory_is_refused() {
    let mut options = LzmaOptions::new_preset(0).unwrap();
    options.dict_size(512 << 20);
    let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc64).unwrap();
    assert_eq!(code(&xz_by(stream, &disk(512))), "unsupported_compression");
    // A frame header that asks for a window of 1 GiB: magic, no flags, exponent 20.
    let frame = [b"\x28\xb5\x2f\xfd".as_slice(), &[0, 20 << 3], &[0; 600]].concat();
    let refusal = surveyed(&frame).unwrap_err();
    assert_eq!(refusal.code, "unsupported_compression", "{refusal}");
}

#[test]
fn zeros_are_found_on_their_grid() {
    let mut raw = vec![0; 5 * ZERO_CHUNK + 512];
    raw[2 * ZERO_CHUNK] = 1;
    let found = surveyed(&raw).unwrap();
    assert_eq!(found.zeros.zero, [(0, 2), (3, 3)]);
    assert_eq!(found.survey.zero_bytes, (4 * ZERO_CHUNK + 512) as u64);
    let packed = gz(&raw);
    assert_eq!(surveyed_in(&packed, 333).unwrap().zeros, found.zeros);
}

#[test]
fn a_survey_says_how_far_it_is_and_can_be_stopped() {
    let file = gz(&disk(1 << 20));
    let meter = Arc::new(Meter::default());
    survey(file.as_slice(), digest(&file), &meter).unwrap();
    assert_eq!(meter.done.load(Ordering::Relaxed), file.len() as u64);
    meter.cancelled.store(true, Ordering::Relaxed);
    assert_eq!(survey(file.as_slice(), digest(&file), &meter).unwrap_err().code, "canceled");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_behind_a_magic_are_refused_without_a_panic(bytes in any::<Vec<u8>>(), chunk in 1_usize..64) {
        for magic in [&b"\xfd7zXZ\0"[..], b"\x1f\x8b\x08\0", b"BZh9", b"\x28\xb5\x2f\xfd"] {
            let file = [magic, &bytes].concat();
            prop_assert!(surveyed_in(&file, chunk).is_err());
        }
    }
}
