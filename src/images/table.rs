//! The partition table of an image: MBR, or GPT (UEFI 2.10 §5.3) with sectors of 512 or 4096 bytes. For people and for
//! later steps; nothing is refused for it.

use crate::core::image::{Partition, PartitionTable, Scheme};

const MBR_ENTRIES: usize = 446;
const PROTECTIVE: u8 = 0xee;
/// No image of a module has more; keeps what a hostile table can make of an event small.
const MOST: usize = 32;

/// From the first bytes of an image; nothing where there is no table.
pub fn read(head: &[u8]) -> Option<PartitionTable> {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let entries = || head[MBR_ENTRIES..510].chunks_exact(16).zip(1_u32..);
    if entries().any(|(entry, _)| entry[4] == PROTECTIVE)
        && let Some(gpt) = [512, 4096].into_iter().find_map(|sector| gpt(head, sector))
    {
        return Some(gpt);
    }
    let sound = |entry: &[u8]| matches!(entry[0], 0 | 0x80);
    // The first sector of a FAT file system ends like an MBR too, and has code in place of the entries.
    if !entries().all(|(entry, _)| sound(entry)) {
        return None;
    }
    let partitions = entries()
        .filter(|(entry, _)| entry[4] != 0)
        .map(|(entry, index)| Partition {
            index,
            kind: format!("{:02x}", entry[4]),
            start_bytes: u64::from(u32_at(entry, 8)) * 512,
            size_bytes: u64::from(u32_at(entry, 12)) * 512,
            name: None,
        })
        .collect();
    Some(PartitionTable { scheme: Scheme::Mbr, partitions })
}

fn gpt(head: &[u8], sector: usize) -> Option<PartitionTable> {
    let header = head.get(sector..sector + 92)?;
    if !header.starts_with(b"EFI PART") {
        return None;
    }
    let first = usize::try_from(u64_at(header, 72)).ok()?.checked_mul(sector)?;
    let count = usize::try_from(u32_at(header, 80)).ok()?.min(128);
    let size = usize::try_from(u32_at(header, 84)).ok().filter(|size| (128..=4096).contains(size))?;
    let bytes = sector as u64;
    let partitions = (0..count)
        .map_while(|n| head.get(first.checked_add(n * size)?..)?.get(..128))
        .zip(1..)
        .filter(|(entry, _)| entry[..16] != [0; 16])
        .take(MOST)
        .map(|(entry, index)| {
            let (start, end) = (u64_at(entry, 32), u64_at(entry, 40));
            Partition {
                index,
                kind: guid(entry),
                start_bytes: start.saturating_mul(bytes),
                size_bytes: end.saturating_sub(start).saturating_add(1).saturating_mul(bytes),
                name: name(&entry[56..128]),
            }
        })
        .collect();
    Some(PartitionTable { scheme: Scheme::Gpt, partitions })
}

/// The first three fields are little-endian, the rest is as it stands.
fn guid(entry: &[u8]) -> String {
    let hex = |order: &[usize]| order.iter().map(|at| format!("{:02x}", entry[*at])).collect::<String>();
    let parts: [&[usize]; 5] = [&[3, 2, 1, 0], &[5, 4], &[7, 6], &[8, 9], &[10, 11, 12, 13, 14, 15]];
    parts.map(hex).join("-")
}

fn name(utf16: &[u8]) -> Option<String> {
    let units: Vec<u16> = utf16
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    let name: String = String::from_utf16_lossy(&units).chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut head = vec![0; 8192];
        for (n, (kind, start, size)) in entries.iter().enumerate() {
            let entry = &mut head[MBR_ENTRIES + n * 16..][..16];
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..16].copy_from_slice(&size.to_le_bytes());
        }
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head
    }

    #[test]
    fn the_table_of_a_raspberry_pi_image_is_read() {
        let table = read(&mbr(&[(0x0c, 8192, 1_048_576), (0x83, 1_056_768, 4_000_000)])).unwrap();
        assert_eq!(table.scheme, Scheme::Mbr);
        let shown: Vec<_> = table.partitions.iter().map(|p| (p.index, p.kind.as_str(), p.start_bytes)).collect();
        assert_eq!(shown, [(1, "0c", 8192 * 512), (2, "83", 1_056_768 * 512)]);
        assert_eq!(table.partitions[0].size_bytes, 512 << 20);
    }

    #[test]
    fn a_gpt_is_read_behind_its_protective_mbr() {
        let mut head = mbr(&[(PROTECTIVE, 1, u32::MAX)]);
        head[512..520].copy_from_slice(b"EFI PART");
        head[512 + 72] = 2;
        head[512 + 80] = 128;
        head[512 + 84] = 128;
        let entry = &mut head[1024..1152];
        entry[..16].copy_from_slice(b"\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7");
        (entry[33], entry[41]) = (8, 15);
        entry[56..64].copy_from_slice(b"b\0o\0o\0t\0");
        let table = read(&head).unwrap();
        let expected = Partition {
            index: 1,
            kind: "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7".to_owned(),
            start_bytes: 2048 * 512,
            size_bytes: (3840 - 2048 + 1) * 512,
            name: Some("boot".to_owned()),
        };
        assert_eq!(table, PartitionTable { scheme: Scheme::Gpt, partitions: vec![expected] });
    }

    #[test]
    fn a_file_system_without_a_table_has_none() {
        assert_eq!(read(&[0; 512]), None);
        assert_eq!(read(b"short"), None);
        let mut fat = mbr(&[]);
        fat[MBR_ENTRIES] = 0x33;
        assert_eq!(read(&fat), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..1200) {
            let mut head = mbr(&[(PROTECTIVE, 1, 1)]);
            head[512..520].copy_from_slice(b"EFI PART");
            let end = (at + bytes.len()).min(head.len());
            head[at..end].copy_from_slice(&bytes[..end - at]);
            read(&head);
        }
    }
}
