//! The firmware step with a flashrom of a few lines, whose chip is a plain file.

use std::fs;
use std::process::Output;

use crate::core::firmware::eeprom::tests::of_2711;
use crate::core::firmware::{Chip, FirmwarePlan};
use crate::script::tests::station::{Form, Image, Say, Station};
use crate::script::tests::world::{Job, MIB, World, digest};
use crate::script::tests::{STORY, values};

const OLD: u32 = 1_673_458_852;
const NEW: u32 = 1_785_801_600;
const SETTINGS: &str = "[all]\nBOOT_ORDER=0xf2461\n";

/// A flashrom that works; `$chip` is what the EEPROM holds.
const GOOD: &str = r#"-r) cat "$chip" >"$4" ;; -w) cat "$4" >"$chip" ;;"#;
const READS: &str = r#"-r) cat "$chip" >"$4" ;;"#;

struct Bench {
    world: World,
    job: Job,
    image: Vec<u8>,
}

impl Bench {
    /// `cases` say what flashrom does.
    fn new(mut world: World, held: &[u8], cases: &str) -> Self {
        let chip = world.folder().join("chip");
        let log = world.folder().join("flashrom.log");
        fs::write(&chip, held).unwrap();
        world.stub(
            "flashrom",
            &format!(
                "chip={} log={}\n[ \"$1 $2\" = '-p linux_spi:dev=/dev/spidev0.0,spispeed=16000' ] || exit 9\n\
                 echo \"$3\" >>\"$log\"\ncase $3 in {cases} esac",
                chip.display(),
                log.display()
            ),
        );
        world.with_medium(2 * MIB);
        let image = of_2711(NEW, SETTINGS);
        Self { world, job: Job { firmware: Some(plan(&image)), ..Job::raw(MIB) }, image }
    }

    fn all(held: &[u8], cases: &str) -> Vec<Self> {
        World::both().into_iter().map(|world| Self::new(world, held, cases)).collect()
    }

    fn station(&self, cuts: usize) -> Station {
        let image = Image { firmware: self.image.clone(), cuts, ..self.job.image() };
        Station::start(image, |_, _| Say::Status(200))
    }

    fn run(&self, station: &Station) -> Output {
        self.world.provision(&self.job, station)
    }

    fn chip(&self) -> Vec<u8> {
        fs::read(self.world.folder().join("chip")).unwrap()
    }

    /// What flashrom was told to do: `r`, `w`.
    fn deeds(&self) -> String {
        fs::read_to_string(self.world.folder().join("flashrom.log")).unwrap_or_default().replace(['-', '\n'], "")
    }

    fn assert_failed(&self, station: &Station, output: &Output, code: &str) -> String {
        self.world.assert_failed(output, code);
        self.world.assert_untouched();
        assert_eq!(station.story(), ["firmware started", &format!("firmware failed {code}")], "{}", self.world.name);
        values(&station.reports.lock().unwrap()[1], "detail")[0].clone()
    }
}

fn plan(image: &[u8]) -> FirmwarePlan {
    FirmwarePlan {
        image: digest(b"stock"),
        chip: Chip::Bcm2711,
        version: "2026-08-04 8ba17717".to_owned(),
        built: Some(NEW),
        bootconf: Some(SETTINGS.to_owned()),
        sha256: digest(image),
        size_bytes: image.len() as u64,
        allow_downgrade: false,
    }
}

fn story() -> Vec<&'static str> {
    ["firmware started", "firmware completed"].into_iter().chain(STORY).collect()
}

fn told(station: &Station) -> Form {
    station.reports.lock().unwrap()[1].clone()
}

#[test]
fn the_eeprom_is_written_and_read_back_before_the_medium() {
    let old = of_2711(OLD, "A=1\n");
    for bench in Bench::all(&old, GOOD) {
        let station = bench.station(0);
        let output = bench.run(&station);
        assert!(output.status.success(), "{}: {output:?}", bench.world.name);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", bench.world.name);
        assert_eq!(station.story(), story(), "{}", bench.world.name);
        assert_eq!((bench.chip() == bench.image, bench.deeds().as_str()), (true, "rwr"));
        let told = told(&station);
        assert_eq!(values(&told, "sha256"), [digest(&bench.image).to_string()]);
        assert_eq!(values(&told, "version_before"), ["2023-01-11 8ba17717"]);
        assert_eq!(values(&told, "built_before"), [OLD.to_string()]);
        assert_eq!(values(&told, "version_after"), ["2026-08-04 8ba17717"]);
        assert_eq!(values(&told, "skipped"), [""; 0]);
    }
}

#[test]
fn an_eeprom_that_holds_the_image_already_is_left_alone() {
    for bench in Bench::all(&of_2711(NEW, SETTINGS), GOOD) {
        let station = bench.station(0);
        assert!(bench.run(&station).status.success());
        assert_eq!((station.story(), bench.deeds().as_str()), (story().iter().map(ToString::to_string).collect(), "r"));
        assert_eq!(values(&told(&station), "skipped"), ["yes"]);
        assert_eq!(values(&told(&station), "version_after"), ["2026-08-04 8ba17717"]);
    }
}

#[test]
fn other_settings_of_the_same_build_are_no_downgrade() {
    for bench in Bench::all(&of_2711(NEW, "A=1\n"), GOOD) {
        assert!(bench.run(&bench.station(0)).status.success());
        assert!(bench.chip() == bench.image);
    }
}

#[test]
fn a_newer_eeprom_is_not_written_unless_the_project_allows_it() {
    let newer = of_2711(NEW + 1, SETTINGS);
    for mut bench in Bench::all(&newer, GOOD) {
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.downgrade");
        assert_eq!(detail, "the EEPROM holds 2026-08-04 8ba17717, which is newer than 2026-08-04 8ba17717");
        assert_eq!((bench.chip() == newer, bench.deeds().as_str()), (true, "r"));
        bench.job.firmware.as_mut().unwrap().allow_downgrade = true;
        assert!(bench.run(&bench.station(0)).status.success());
        assert!(bench.chip() == bench.image);
    }
}

#[test]
fn an_eeprom_that_does_not_take_the_image_gets_back_what_it_held() {
    let old = of_2711(OLD, "A=1\n");
    // The first write breaks off in the middle.
    let breaks = r#"-w) if [ "$(grep -c w "$log")" = 1 ]; then head -c 100000 "$4" >"$chip"; echo 'Erase FAILED'; exit 1; fi; cat "$4" >"$chip" ;;"#
        .replace(r#"$(grep -c w "$log")"#, r#"$(sed -n /w/p "$log" | wc -l | tr -d ' ')"#);
    for bench in Bench::all(&old, &format!("{READS} {breaks}")) {
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.write");
        assert_eq!(detail, "Erase FAILED ; the EEPROM holds again what it held before");
        assert_eq!((bench.chip() == old, bench.deeds().as_str()), (true, "rwwr"));
    }
}

#[test]
fn an_eeprom_that_cannot_be_written_at_all_is_said_to_be_in_danger() {
    for bench in Bench::all(&of_2711(OLD, "A=1\n"), &format!("{READS} -w) echo 'write protected' >&2; exit 1 ;;")) {
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.write");
        assert!(detail.starts_with("write protected ; the EEPROM may be damaged"), "{detail}");
    }
}

#[test]
fn an_eeprom_that_reads_back_something_else_fails() {
    let spoils = r#"-w) cat "$4" >"$chip"; printf X | dd of="$chip" bs=1 seek=70000 conv=notrunc 2>/dev/null ;;"#;
    for bench in Bench::all(&of_2711(OLD, "A=1\n"), &format!("{READS} {spoils}")) {
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.mismatch");
        assert!(detail.contains(&format!("instead of {}", digest(&bench.image))), "{detail}");
    }
}

#[test]
fn an_eeprom_that_cannot_be_read_or_is_another_chip_fails() {
    for bench in Bench::all(b"", "-r) echo 'No EEPROM/flash device found.'; exit 1 ;;") {
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.read");
        assert_eq!(detail, "No EEPROM/flash device found. ");
    }
    for bench in Bench::all(&[0xff; 2 << 20], GOOD) {
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.chip");
        assert_eq!(detail, "the EEPROM of this module has 2097152 bytes, the firmware is for one of 524288");
        assert_eq!(bench.deeds(), "r");
    }
}

/// By busybox alone: this system may have a flashrom, and it is not to be called.
#[test]
fn a_system_without_flashrom_fails() {
    let [_, world] = World::both();
    world.with_medium(2 * MIB);
    let image = of_2711(NEW, SETTINGS);
    let bench = Bench { job: Job { firmware: Some(plan(&image)), ..Job::raw(MIB) }, world, image };
    let station = bench.station(0);
    let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.tools");
    assert_eq!(detail, "this system has no flashrom");
}

#[test]
fn a_download_that_is_cut_is_tried_again_and_not_for_ever() {
    for bench in Bench::all(&of_2711(OLD, "A=1\n"), GOOD) {
        let station = bench.station(1);
        assert!(bench.run(&station).status.success());
        assert_eq!(station.story(), story());
    }
    for bench in Bench::all(&of_2711(OLD, "A=1\n"), GOOD) {
        let station = bench.station(usize::MAX);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.download");
        assert!(detail.contains("(18)"), "{detail}");
        assert_eq!(bench.deeds(), "");
    }
}

#[test]
fn a_download_that_is_not_the_image_is_not_written() {
    for mut bench in Bench::all(&of_2711(OLD, "A=1\n"), GOOD) {
        bench.image[0x200] ^= 1;
        let station = bench.station(0);
        let detail = bench.assert_failed(&station, &bench.run(&station), "firmware.download");
        assert!(detail.contains("instead of"), "{detail}");
        assert_eq!(bench.deeds(), "");
    }
}

#[test]
fn an_eeprom_that_does_not_tell_its_version_is_asked_of_the_bootloader() {
    for mut bench in Bench::all(&[0xff; 512 << 10], GOOD) {
        bench.world.stub(
            "vcgencmd",
            &format!("[ \"$1\" = bootloader_version ] && printf '2023/01/11 17:40:52\\nversion 8ba17717\\ntimestamp {OLD}\\n'"),
        );
        let station = bench.station(0);
        assert!(bench.run(&station).status.success());
        assert_eq!(values(&told(&station), "built_before"), [OLD.to_string()]);
        assert!(values(&told(&station), "version_before")[0].starts_with("2023/01/11"), "{:?}", told(&station));
    }
}
