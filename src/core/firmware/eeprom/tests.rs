//! Images made after the layout of real ones (2711 of 2026-08-04, 2712 of 2026-08-12), which are not ours to ship. The
//! edited ones were compared with what `rpi-eeprom-config` makes of the same images: their sums stand below.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

/// Writes sections one behind the other.
pub struct Maker {
    bytes: Vec<u8>,
    at: usize,
}

impl Maker {
    fn new(chip: Chip) -> Self {
        let size = match chip {
            Chip::Bcm2711 => 0x8_0000,
            Chip::Bcm2712 => 0x20_0000,
        };
        Self { bytes: vec![0xff; size], at: 0 }
    }

    fn section(mut self, magic: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).unwrap();
        let whole = [&magic.to_be_bytes(), &length.to_be_bytes(), payload].concat();
        self.bytes[self.at..self.at + whole.len()].copy_from_slice(&whole);
        self.at = (self.at + whole.len()).next_multiple_of(8);
        self
    }

    fn file(self, magic: u32, name: &str, content: &[u8]) -> Self {
        let mut payload = name.as_bytes().to_vec();
        payload.resize(NAME, 0);
        payload.extend_from_slice(content);
        self.section(magic, &payload)
    }

    fn pad_to(self, offset: usize) -> Self {
        let length = offset - self.at - HEADER;
        self.section(PADDING, &vec![0xff; length])
    }
}

fn time(seconds: u32) -> Vec<u8> {
    [(!seconds).to_le_bytes(), seconds.to_le_bytes()].concat()
}

fn code(built: u32, size: usize) -> Vec<u8> {
    let mut code = vec![0x5a; size];
    let text = format!("\0BUILD_TIMESTAMP={built}\0VERSION:8ba17717fbcedd4c3b6d4bce7e50c7af4155cba9\0MFG_VER: 1\0");
    code[0x100..0x100 + text.len()].copy_from_slice(text.as_bytes());
    code
}

/// As 2711 images are: `bootconf.txt` is the last section.
pub fn of_2711(built: u32, bootconf: &str) -> Vec<u8> {
    Maker::new(Chip::Bcm2711)
        .section(BOOTCODE, &code(built, 0x11fb1))
        .file(LZ4_FILE, "bootmain", &[0x11; 0x3001])
        .pad_to(0x71e20)
        .file(RAW_FILE, "updatetime", &time(built + 60))
        .pad_to(0x71f00)
        .file(FILE, "pubkey.bin", &[0; 264])
        .pad_to(0x72b00)
        .file(FILE, "bootconf.sig", &[])
        .pad_to(0x73000)
        .file(FILE, BOOTCONF, bootconf.as_bytes())
        .bytes
}

/// As 2712 images are: a read-only part, partition A, and an empty partition B.
pub fn of_2712(built: u32, bootconf: &str) -> Vec<u8> {
    partition(Maker::new(Chip::Bcm2712), built, bootconf).bytes
}

fn partition(maker: Maker, built: u32, bootconf: &str) -> Maker {
    partition_a(maker, built).pad_to(0xa4000).file(FILE, BOOTCONF, bootconf.as_bytes()).pad_to(PARTITION_B)
}

fn partition_a(maker: Maker, built: u32) -> Maker {
    maker
        .section(BOOTCODE, &code(built, 0x6791))
        .file(RAW_FILE, "updatetime", &time(built + 60))
        .pad_to(PARTITION_A)
        .section(0x55aa_f22f, &[7; 0x1001])
        .file(LZ4_FILE, "bootmain", &[0x11; 0x3001])
        .pad_to(0xa1f38)
        .file(RAW_FILE, "updatetime", &time(built + 60))
        .pad_to(0xa2c00)
        .file(FILE, "bootconf.sig", &[])
}

fn two_partitions(first: &str, second: &str) -> Vec<u8> {
    partition(Maker::new(Chip::Bcm2712), 1_700_000_000, first)
        .section(0x55aa_f22f, &[8; 0x1001])
        .pad_to(0x19_b000)
        .file(FILE, BOOTCONF, second.as_bytes())
        .pad_to(PARTITIONS_END)
        .bytes
}

fn edited(image: Vec<u8>, text: &str) -> Eeprom {
    Eeprom::parse(Eeprom::parse(image).unwrap().with_bootconf(text.as_bytes()).unwrap()).unwrap()
}

fn sum(bytes: &[u8]) -> String {
    Digest::new(Sha256::digest(bytes).into()).to_string()
}

#[test]
fn an_image_tells_its_chip_its_build_and_its_settings() {
    for (image, chip) in [
        (of_2711(1_785_801_600, "[all]\nA=1\n"), Chip::Bcm2711),
        (of_2712(1_785_801_600, "[all]\nA=1\n"), Chip::Bcm2712),
    ] {
        let eeprom = Eeprom::parse(image).unwrap();
        assert_eq!(eeprom.chip(), chip);
        assert_eq!(eeprom.bootconf(), Ok("[all]\nA=1\n"));
        assert_eq!((eeprom.built(), eeprom.updated()), (Some(1_785_801_600), Some(1_785_801_660)));
        assert_eq!(eeprom.version(), "2026-08-04 8ba17717");
        assert_eq!(eeprom.room(), LARGEST);
    }
}

#[test]
fn an_old_image_has_its_time_at_its_end() {
    let mut image = Maker::new(Chip::Bcm2711).section(BOOTCODE, &[0; 64]).file(FILE, BOOTCONF, b"").bytes;
    let none = Eeprom::parse(image.clone()).unwrap();
    assert_eq!((none.built(), none.version().as_str()), (None, "unknown"));
    let end = image.len() - 8;
    image[end..].copy_from_slice(&time(1_600_000_000));
    let eeprom = Eeprom::parse(image).unwrap();
    assert_eq!((eeprom.built(), eeprom.version().as_str()), (Some(1_600_000_000), "2020-09-13"));
}

#[test]
fn another_bootconf_changes_its_own_sector_and_nothing_else() {
    let text = "[all]\nBOOT_ORDER=0xf2461\n";
    for (image, offset) in
        [(of_2711(1, "[all]\nBOOT_UART=0\nWAKE_ON_GPIO=1\n"), 0x73000), (of_2712(1, "A=1\n"), 0xa4000)]
    {
        let after = edited(image.clone(), text);
        assert_eq!(after.bootconf(), Ok(text));
        let differ: Vec<usize> = (0..image.len()).filter(|at| image[*at] != after.bytes[*at]).collect();
        assert!(differ.iter().all(|at| (offset..offset + SECTOR).contains(at)), "{differ:x?}");
        assert_eq!(after.bytes[offset + 4..offset + 8], u32::try_from(16 + text.len()).unwrap().to_be_bytes());
        // There and back again.
        let before = Eeprom::parse(image.clone()).unwrap();
        assert_eq!(after.with_bootconf(before.bootconf().unwrap().as_bytes()).unwrap(), image);
    }
}

#[test]
fn what_is_behind_a_bootconf_stays_readable_whatever_its_length() {
    for length in (0..80).chain(4040..=LARGEST - 4) {
        let image = partition_a(Maker::new(Chip::Bcm2712), 1)
            .pad_to(0xa4000)
            .file(FILE, BOOTCONF, b"A=1\n")
            .pad_to(0xa5000)
            .file(FILE, "cacert.der", b"cert")
            .bytes;
        let text = "x".repeat(length);
        let after = edited(image, &text);
        assert_eq!(after.bootconf(), Ok(&*text));
        assert!(after.sections.iter().any(|section| section.is_named("cacert.der") && section.offset == 0xa5000));
    }
}

#[test]
fn both_partitions_get_the_same_settings() {
    let after = edited(two_partitions("A=1\n", "A=2\n"), "A=3\n");
    let texts: Vec<&[u8]> = after.configs.iter().map(|at| &after.bytes[after.sections[*at].content()]).collect();
    assert_eq!(texts, [b"A=3\n", b"A=3\n"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let eeprom = Eeprom::parse(of_2711(1, "A=1\n")).unwrap();
    assert!(eeprom.with_bootconf(&[b'x'; LARGEST]).is_ok());
    assert_eq!(eeprom.with_bootconf(&[b'x'; LARGEST + 1]), Err(Fault::TooLong { bytes: LARGEST + 1, room: LARGEST }));
    // Four bytes less than rpi-eeprom-config says, which would write into the section behind.
    let image = Maker::new(Chip::Bcm2711)
        .section(BOOTCODE, &[0; 4096 - 8])
        .file(FILE, BOOTCONF, b"A=1\n")
        .pad_to(8192)
        .file(FILE, "cacert.der", b"cert")
        .bytes;
    assert_eq!(Eeprom::parse(image).unwrap().room(), 4072);
    let end = Maker::new(Chip::Bcm2711).section(BOOTCODE, &[0; 64]).pad_to(0x7ef00).file(FILE, BOOTCONF, b"").bytes;
    assert_eq!(Eeprom::parse(end).unwrap().room(), 0x100 - 24);
}

#[test]
fn what_is_no_image_is_refused_with_a_reason() {
    let fault = |bytes: Vec<u8>| Eeprom::parse(bytes).unwrap_err();
    assert_eq!(fault(Vec::new()), Fault::Size(0));
    assert_eq!(fault(vec![0; 0x8_0001]), Fault::Size(0x8_0001));
    assert_eq!(fault(vec![0; 0x8_0000]), Fault::Magic { offset: 0, magic: 0 });
    assert_eq!(fault(vec![0x55; 0x8_0000]), Fault::Magic { offset: 0, magic: 0x5555_5555 });
    assert_eq!(fault(Maker::new(Chip::Bcm2711).section(BOOTCODE, &[0; 9]).bytes), Fault::NoBootconf);
    let torn = Maker::new(Chip::Bcm2711).section(BOOTCODE, &[0; 8]).section(FILE, &[0; 8]).bytes;
    assert_eq!(fault(torn), Fault::Length { offset: 16 });
    let binary = Maker::new(Chip::Bcm2711).section(BOOTCODE, &[0; 8]).file(FILE, BOOTCONF, &[0xff]).bytes;
    assert_eq!(fault(binary), Fault::NotText);
    let mut long = of_2711(1, "");
    long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(fault(long), Fault::Length { offset: 0 });
}

#[test]
fn a_signature_file_has_the_sum_and_the_time() {
    let digest = Digest::new([0xab; 32]);
    assert_eq!(signature(&digest, 1_785_801_660), format!("{}\nts: 1785801660\n", "ab".repeat(32)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random bytes would hardly ever get past the first header: real ones with faults do.
    #[test]
    fn a_damaged_image_is_read_or_refused_and_never_panics(
        large in any::<bool>(),
        faults in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..32, any::<u8>()), 0..6),
        text in prop::collection::vec(any::<u8>(), 0..4200),
    ) {
        let mut image = if large { two_partitions("A=1\n", "A=2\n") } else { of_2711(1, "A=1\n") };
        let offsets: Vec<usize> = Eeprom::parse(image.clone()).unwrap().sections.iter().map(|s| s.offset).collect();
        for (which, at, value) in faults {
            image[offsets[which.index(offsets.len())] + at] = value;
        }
        if let Ok(eeprom) = Eeprom::parse(image.clone()) {
            eeprom.version();
            match eeprom.with_bootconf(&text) {
                Ok(bytes) => prop_assert_eq!(bytes.len(), image.len()),
                Err(fault) => prop_assert!(matches!(fault, Fault::TooLong { .. }), "{fault}"),
            }
        }
    }

    #[test]
    fn any_bytes_of_the_right_size_are_read_or_refused(seed in prop::collection::vec(any::<u8>(), 1..512)) {
        let image: Vec<u8> = seed.iter().copied().cycle().take(0x8_0000).collect();
        prop_assert!(Eeprom::parse(image).is_err());
    }
}
