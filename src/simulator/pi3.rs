//! What a Pi 3B asks for over TFTP: the boot ROM, then `bootcode.bin`, then `start.elf` (documentation `boot-net`).

use crate::simulator::download::{Fetched, Wish};
use crate::simulator::walk::{Get, Longest, Unbootable, Walk};

/// The boot ROM: bare names, because it does not know its own serial.
pub fn rom(get: &mut Get<'_>) -> Result<u64, Unbootable> {
    let bytes = match get(BOOTCODE, Wish::Whole)? {
        Fetched::Whole { bytes, .. } => bytes,
        Fetched::Missing | Fetched::Seen => return Err(Unbootable::Missing(BOOTCODE.to_owned())),
    };
    get("bootsig.bin", Wish::Probe)?;
    Ok(bytes)
}

pub fn walk(walk: &mut Walk<'_>) -> Result<(), Unbootable> {
    if !walk.sees("start.elf")? {
        walk.drop_prefix();
    }
    walk.want("autoboot.txt")?;
    // Seen: both of its requests for one file under way at once.
    walk.want_twice("config.txt")?;
    let config = walk.config(Longest::Page)?;
    walk.rescue(&["recovery.elf"])?;
    walk.need(config.start_file.as_deref().unwrap_or("start.elf"))?;
    walk.want(config.fixup_file.as_deref().unwrap_or("fixup.dat"))?;
    firmware(walk)
}

fn firmware(walk: &mut Walk<'_>) -> Result<(), Unbootable> {
    walk.rescue(&["recovery.elf"])?;
    let config = walk.config(Longest::Page)?;
    walk.want("dt-blob.bin")?;
    walk.want("bootcfg.txt")?;
    walk.initramfs(&config.initramfs)?;
    walk.need("bcm2710-rpi-3-b.dtb")?;
    walk.want("overlays/overlay_map.dtb")?;
    walk.config(Longest::Page)?;
    walk.overlays(&config)?;
    walk.cmdline(&config)?;
    walk.rescue(&["recovery8.img", "recovery8-32.img", "recovery7.img", "recovery.img"])?;
    walk.kernel(&config, &["kernel8-32.img", "kernel8.img", "kernel7.img", "kernel.img"])?;
    walk.want("armstub8-32.bin")?;
    Ok(())
}

const BOOTCODE: &str = "bootcode.bin";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::board::Model;
    use crate::simulator::download::{Lost, Upset};
    use crate::simulator::walk::tests::visit;

    const SET: [&str; 7] = [
        "start.elf",
        "fixup.dat",
        "config.txt=initramfs scriptexecute.img followkernel\n",
        "scriptexecute.img",
        "bcm2710-rpi-3-b.dtb",
        "cmdline.txt=x",
        "kernel7.img",
    ];

    #[test]
    fn the_rom_takes_bootcode_and_expects_no_signature() {
        let mut asked = Vec::new();
        let end = rom(&mut |file, _| {
            asked.push(file.to_owned());
            Ok(match file {
                BOOTCODE => Fetched::Whole { bytes: 52_000, head: Vec::new() },
                _ => Fetched::Missing,
            })
        });
        assert_eq!(end.unwrap(), 52_000);
        assert_eq!(asked, [BOOTCODE, "bootsig.bin"]);
        let none = rom(&mut |_, _| Ok(Fetched::Missing));
        assert!(matches!(none, Err(Unbootable::Missing(file)) if file == BOOTCODE));
        let late = rom(&mut |file, _| Err(Lost { file: file.to_owned(), why: Upset::Timeout }));
        assert!(matches!(late, Err(Unbootable::Lost(_))));
    }

    #[test]
    fn a_pi_3_boots_below_its_serial_or_from_bare_names() {
        let (asked, booted) = visit(Model::Pi3, &SET, walk);
        assert_eq!(booted.unwrap().cmdline, "x");
        assert!(asked.iter().all(|file| file.starts_with("be910eb2/")), "{asked:?}");
        let (asked, end) = visit(Model::Pi3, &SET[1..], walk);
        assert_eq!(asked[..3], ["be910eb2/start.elf", "autoboot.txt", "config.txt"]);
        assert!(matches!(end, Err(Unbootable::Missing(file)) if file == "start.elf"));
    }

    #[test]
    fn a_pi_3_without_a_good_config_does_not_boot() {
        let mut set = SET.to_vec();
        set.retain(|file| !file.starts_with("config.txt"));
        assert!(matches!(visit(Model::Pi3, &set, walk).1, Err(Unbootable::NoInitramfs)));
        let long = format!("config.txt={}", "#".repeat(4096));
        set.push(&long);
        assert!(matches!(visit(Model::Pi3, &set, walk).1, Err(Unbootable::LongConfig { bytes: 4096 })));
    }
}
