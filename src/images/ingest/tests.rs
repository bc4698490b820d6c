//! Files that are taken and files that are not.

use super::*;
use crate::images::library::Library;

fn fed(bytes: &[u8], chunk: usize, expected: Option<Digest>) -> Result<Taken, Refusal> {
    let data = tempfile::tempdir().unwrap();
    let library = Library::open(data.path(), 0).unwrap();
    let mut intake = Intake::new(library.part().unwrap());
    bytes.chunks(chunk).try_for_each(|chunk| intake.feed(chunk))?;
    let (part, taken) = intake.finish(expected)?;
    library.place(part, taken.id).unwrap();
    assert!(std::fs::read(library.file(taken.id)).unwrap() == bytes);
    Ok(taken)
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

#[test]
fn a_file_is_stored_and_hashed_whatever_its_chunks() {
    let bytes: Vec<u8> = (0..2560).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for chunk in [1, 5, 6, 7, 100_000] {
        let taken = fed(&bytes, chunk, Some(digest(&bytes))).unwrap();
        assert_eq!(taken, Taken { id: digest(&bytes), size_bytes: 2560 });
    }
    assert_eq!(fed(b"", 1, None).unwrap_err().code, "empty");
}

#[test]
fn ways_of_packing_that_nobody_can_undo_are_named_at_once() {
    for (magic, name) in
        [(&b"PK\x03\x04\x14\0"[..], "zip"), (b"\x04\x22\x4d\x18..", "lz4"), (b"\x3a\xff\x26\xed\x01\0", "sparse")]
    {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path(), 0).unwrap();
        let refusal = Intake::new(library.part().unwrap()).feed(magic).unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (415, "unsupported_compression"));
        assert!(refusal.detail.contains(name), "{refusal}");
    }
}

#[test]
fn another_image_than_announced_is_refused() {
    let refusal = fed(&[1; 512], 512, Some(digest(b"other"))).unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str()), (400, "sha256_mismatch"));
    // Also when it is cut: that is how a person sees what happened.
    let refusal = fed(b"\xfd7zXZ\0\0", 512, Some(digest(b"\xfd7zXZ\0\0whole"))).unwrap_err();
    assert_eq!(refusal.code, "sha256_mismatch");
}

#[test]
fn the_name_of_an_image_is_any_text_of_a_sane_length() {
    assert_eq!(image_name("  Raspberry Pi OS (64-bit)/é.img.xz ").unwrap(), "Raspberry Pi OS (64-bit)/é.img.xz");
    for wrong in ["", "   ", "a\nb", "a\0b", &"x".repeat(201)] {
        assert_eq!(image_name(wrong).unwrap_err().code, "invalid_params", "{wrong:?}");
    }
}
