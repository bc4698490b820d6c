//! The scripts, run for real: by dash with the tools of this system and by busybox with its own, against a station
//! of a few lines, onto a plain file.

mod firmware;
mod identify;
mod site;
mod station;
mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::*;
use crate::core::image::Compression;
use crate::script::tests::station::{Form, Image, Say, Station};
use crate::script::tests::world::{Job, MIB, World, found};

const STORY: [&str; 5] = ["write started", "write completed", "verify started", "verify completed", "finished"];

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

fn values<'a>(form: &'a Form, name: &str) -> &'a [String] {
    form.get(name).map_or(&[], Vec::as_slice)
}

#[test]
fn an_image_goes_onto_the_medium_and_nothing_else_does() {
    let sizes = [512, MIB - 512, MIB, MIB + 512, 2 * MIB, 3 * MIB + 1536];
    for world in World::both() {
        for job in sizes.iter().flat_map(|size| [Job::raw(*size), Job::xz(*size)]) {
            world.with_medium(5 * MIB);
            let station = job.station();
            let output = world.provision(&job, &station);
            let case = format!("{} {:?} {}: {output:?}", world.name, job.compression, job.raw_size);
            assert!(output.status.success(), "{case}");
            assert_eq!(last_line(&output), "Provisioning completed successfully!", "{case}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{case}");
            assert_eq!(station.story(), STORY, "{case}");
            let medium = fs::read(world.medium()).unwrap();
            assert!(medium[..job.raw_size] == job.raw, "{case}");
            assert!(medium.len() == 5 * MIB && medium[job.raw_size..].iter().all(|byte| *byte == 0xaa), "{case}");
            let reports = station.reports.lock().unwrap();
            let size = [job.raw_size.to_string()];
            assert_eq!(values(&reports[1], "bytes"), size, "{case}");
            assert!(values(&reports[1], "warning")[0].contains("plain file"), "{case}");
            assert_eq!(values(&reports[3], "sha256"), [job.raw_sha256.to_string()], "{case}");
            assert_eq!(values(&reports[3], "bytes"), size, "{case}");
            assert!(["direct", "not_dropped"].contains(&values(&reports[3], "cache")[0].as_str()), "{case}");
        }
    }
}

#[test]
fn the_status_led_blinks_and_then_shows_how_it_went() {
    for world in World::both() {
        for (on_success, damaged, level) in
            [(true, false, "1\n"), (false, false, "0\n"), (true, true, "0\n"), (false, true, "1\n")]
        {
            let mut job = Job { status_led: Some(status_led(on_success)), ..Job::xz(2 * MIB) };
            if damaged {
                job.served.truncate(1000);
            }
            let line = world.with_gpio(21);
            world.with_medium(3 * MIB);
            let output = world.provision(&job, &job.station());
            let case = format!("{} {on_success} {damaged}: {output:?}", world.name);
            assert_eq!(output.status.success(), !damaged, "{case}");
            assert_eq!(fs::read_to_string(line.join("direction")).unwrap(), "out\n", "{case}");
            assert_eq!(fs::read_to_string(line.join("value")).unwrap(), level, "{case}");
        }
    }
}

#[test]
fn every_form_that_the_module_can_decode_is_written() {
    for (world, form) in World::both().iter().flat_map(|w| [(w, Compression::Gz), (w, Compression::Bz2)]) {
        let mut job = Job::packed_as(3 * MIB + 1536, form);
        // Members one after the other are one image.
        let half = Job::packed_as(3 * MIB + 1536, form);
        job.served.extend_from_slice(&half.served);
        job.raw.extend_from_within(..);
        job.raw_size *= 2;
        job.raw_sha256 = world::digest(&job.raw);
        world.with_medium(8 * MIB);
        let output = world.provision(&job, &job.station());
        assert!(output.status.success(), "{} {form:?}: {output:?}", world.name);
        assert!(fs::read(world.medium()).unwrap()[..job.raw_size] == job.raw, "{} {form:?}", world.name);

        let mut wrong = Job::packed_as(3 * MIB, form);
        let at = wrong.served.len() - 5;
        wrong.served[at] ^= 1;
        world.assert_failed(&world.provision(&wrong, &wrong.station()), "write.decode");
        world.assert_wiped();
        let mut cut = Job::packed_as(3 * MIB, form);
        cut.served.truncate(cut.served.len() / 2);
        world.assert_failed(&world.provision(&cut, &cut.station()), "write.decode");
    }
}

#[test]
fn a_gpio_that_is_not_there_is_a_warning() {
    for world in World::both() {
        let job = Job { status_led: Some(status_led(true)), ..Job::raw(MIB) };
        world.with_medium(MIB);
        let station = job.station();
        assert!(world.provision(&job, &station).status.success());
        let reports = station.reports.lock().unwrap();
        assert_eq!(values(&reports[1], "warning")[0], "no GPIO 21 for the status LED", "{}", world.name);
    }
}

fn status_led(on_success: bool) -> crate::core::project::StatusLed {
    serde_json::from_value(serde_json::json!({"gpio": 21, "on_success": on_success})).unwrap()
}

#[test]
fn a_form_that_the_module_cannot_decode_is_refused_before_it_is_touched() {
    for world in World::both() {
        let job = Job::packed_as(MIB, Compression::Zstd);
        world.with_medium(2 * MIB);
        world.assert_failed(&world.provision(&job, &job.station()), "tools.missing");
        world.assert_untouched();
    }
}

#[test]
fn a_script_that_was_cut_off_on_its_way_does_nothing() {
    let [dash, _] = World::both();
    let job = Job::raw(512);
    let station = job.station();
    dash.with_medium(MIB);
    let script = dash.script(&job, &station);
    for end in (0..script.len() - 2).step_by(211).chain([script.len() - 2]).filter(|end| script.is_char_boundary(*end))
    {
        dash.run(&script[..end]);
    }
    dash.assert_untouched();
    assert_eq!(station.story(), [""; 0]);
}

#[test]
fn a_broken_xz_fails_the_write_and_the_module_netboots_again() {
    for world in World::both() {
        let mut job = Job::xz(3 * MIB);
        job.served.truncate(job.served.len() / 2);
        world.with_medium(4 * MIB);
        let station = job.station();
        let output = world.provision(&job, &station);
        world.assert_failed(&output, "write.decode");
        assert_eq!(station.story(), ["write started", "write failed write.decode"]);
        world.assert_wiped();
    }
}

#[test]
fn a_connection_that_is_cut_is_taken_up_where_it_ended() {
    for (world, job) in World::both().iter().flat_map(|w| [(w, Job::raw(3 * MIB)), (w, Job::xz(3 * MIB))]) {
        let image = Image { cut_after: Some(job.served.len() * 2 / 5), resumes: true, ..job.image() };
        let station = Station::start(image, |_, _| Say::Status(200));
        world.with_medium(4 * MIB);
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
        assert!(fs::read(world.medium()).unwrap()[..job.raw_size] == job.raw, "{}", world.name);
        let reports = station.reports.lock().unwrap();
        let taken_up = |text: &&String| text.ends_with("bytes and was taken up");
        assert_eq!(values(&reports[1], "warning").iter().filter(taken_up).count(), 2, "{}", world.name);
    }
}

#[test]
fn a_connection_that_is_cut_and_cannot_be_taken_up_fails_the_write() {
    for (world, job) in World::both().iter().flat_map(|w| [(w, Job::raw(3 * MIB)), (w, Job::xz(3 * MIB))]) {
        let image = Image { cut_after: Some(job.served.len() * 2 / 3), ..job.image() };
        let station = Station::start(image, |_, _| Say::Status(200));
        world.with_medium(4 * MIB);
        let output = world.provision(&job, &station);
        world.assert_failed(&output, "write.download");
        assert_eq!(station.story(), ["write started", "write failed write.download"]);
        assert!(values(&station.reports.lock().unwrap()[1], "detail")[0].contains("(33)"));
        world.assert_wiped();
    }
}

#[test]
fn an_image_of_another_size_fails_the_write() {
    for world in World::both() {
        for planned in [2 * MIB, 4 * MIB] {
            let job = Job { raw_size: planned, ..Job::xz(3 * MIB) };
            world.with_medium(5 * MIB);
            let station = job.station();
            let output = world.provision(&job, &station);
            world.assert_failed(&output, "write.size");
            let detail = values(&station.reports.lock().unwrap()[1], "detail")[0].clone();
            assert_eq!(detail, format!("the image gave {} bytes instead of {planned}", 3 * MIB), "{}", world.name);
            world.assert_wiped();
            assert!(fs::read(world.medium()).unwrap()[planned..].iter().all(|byte| *byte == 0xaa));
        }
    }
}

#[test]
fn a_medium_that_is_missing_too_small_or_a_file_is_refused_before_it_is_touched() {
    for world in World::both() {
        let job = Job::raw(2 * MIB);
        let station = job.station();
        world.assert_failed(&world.provision(&job, &station), "storage.missing");
        assert!(!world.medium().exists());
        world.with_medium(2 * MIB - 512);
        world.assert_failed(&world.provision(&job, &station), "storage.too_small");
        world.assert_untouched();
        world.with_medium(3 * MIB);
        let real = Job { regular_file: false, ..job };
        world.assert_failed(&world.provision(&real, &station), "storage.not_a_disk");
        world.assert_untouched();
        let story =
            ["storage.missing", "storage.too_small", "storage.not_a_disk"].map(|code| format!("write failed {code}"));
        assert_eq!(station.story(), story);
    }
}

#[test]
fn a_medium_that_does_not_take_the_bytes_fails_the_write() {
    for world in World::both() {
        let job = Job::xz(5 * MIB);
        let station = job.station();
        world.with_medium(6 * MIB);
        // Files may not grow or be written beyond 2 MiB: that is how this test breaks a medium.
        let script = world.script(&job, &station).replacen("#!/bin/sh\n", "#!/bin/sh\nulimit -f 4096\n", 1);
        let output = world.run(&script);
        world.assert_failed(&output, "write.medium");
        assert_eq!(station.story(), ["write started", "write failed write.medium"]);
        world.assert_wiped();
    }
}

#[test]
fn a_medium_that_gives_back_something_else_fails_and_does_not_boot() {
    for mut world in World::both() {
        let medium = world.medium();
        // Between writing and reading, the script tells that it begins to read.
        let spoil = format!("printf X | dd of={} bs=1 seek=700000 conv=notrunc 2>/dev/null", medium.display());
        let curl = found("curl");
        let real = format!("exec {} \"$@\"", curl.display());
        world.stub("curl", &format!("case \"$*\" in *step=verify*state=started*) {spoil} ;; esac\n{real}"));
        for (status, code) in [(200, "verify.mismatch"), (409, "session_closed")] {
            let job = Job::raw(2 * MIB);
            let station = Station::start(job.image(), move |form, _| {
                let proof = form.contains_key("sha256");
                Say::Status(if proof { status } else { 200 })
            });
            world.with_medium(2 * MIB);
            let output = world.provision(&job, &station);
            world.assert_failed(&output, code);
            assert_ne!(values(&station.reports.lock().unwrap()[3], "sha256"), [job.raw_sha256.to_string()]);
            world.assert_wiped();
        }
    }
}

#[test]
fn a_no_of_the_station_ends_the_script_at_once() {
    for world in World::both() {
        for refused in 0..STORY.len() {
            let job = Job::raw(2 * MIB);
            let station =
                Station::start(job.image(), move |_, before| Say::Status(if before == refused { 409 } else { 200 }));
            world.with_medium(2 * MIB);
            let output = world.provision(&job, &station);
            world.assert_failed(&output, "session_closed");
            assert_eq!(station.story(), STORY[..=refused]);
            if refused == 0 { world.assert_untouched() } else { world.assert_wiped() }
        }
    }
}

#[test]
fn a_station_that_is_busy_or_restarted_is_asked_again() {
    for world in World::both() {
        let job = Job::raw(512);
        let station = Station::start(job.image(), |_, before| match before {
            0 | 1 => Say::Busy,
            4 => Say::HangUp,
            _ => Say::Status(200),
        });
        world.with_medium(MIB);
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
        let mut story = vec!["write started"; 2];
        story.extend(STORY);
        story.insert(4, "verify started");
        assert_eq!(station.story(), story, "{}", world.name);
    }
}

#[test]
fn a_running_write_says_how_far_it_is() {
    for world in World::both() {
        let job = Job::raw(6 * MIB);
        let station = Station::start(Image { wait_for_progress: true, ..job.image() }, |_, _| Say::Status(200));
        world.with_medium(6 * MIB);
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
    }
}

#[test]
fn a_refusal_is_a_script_that_says_why() {
    let refusal = Refusal::new(409, "no_project", "x\"; reboot; echo \"\n`id` $(id) it's");
    for world in World::both() {
        let output = world.run(&refuse(&refusal));
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("This module is not provisioned.\n{}\n(no_project)\n", refusal.detail));
    }
}

#[test]
fn partitions_are_named_as_the_kernel_names_them() {
    let name = |storage: &str| partition(&storage.parse().unwrap(), 2);
    assert_eq!(name("/dev/mmcblk0"), "/dev/mmcblk0p2");
    assert_eq!(name("/dev/nvme0n1"), "/dev/nvme0n1p2");
    assert_eq!(name("/dev/sda"), "/dev/sda2");
}

#[test]
fn the_prologue_names_what_scripts_of_the_predecessor_expect() {
    let setting = Setting { server: "192.168.5.1:80".parse().unwrap(), progress_seconds: 5 };
    let script = render(&setting, Serial(0x1000_0000_a1b2_c3d4), &Job::raw(512).session());
    for line in [
        "SERIAL='10000000a1b2c3d4'",
        "SERVER='192.168.5.1'",
        "STORAGE='/dev/mmcblk0'",
        "PART1='/dev/mmcblk0p1'",
        "PART2='/dev/mmcblk0p2'",
        "IMAGE_URL='http://192.168.5.1/device/v1/sessions/00000000-0000-0000-0000-000000000000/image'",
    ] {
        assert!(script.lines().any(|other| other == line), "{line}");
    }
}

#[test]
fn the_shell_is_clean_in_the_eyes_of_three_parsers_and_shellcheck() {
    let folder = tempfile::tempdir().unwrap();
    let setting = Setting { server: "192.168.5.1:8080".parse().unwrap(), progress_seconds: 5 };
    let scripts = [
        ("provision", render(&setting, Serial(1), &site::everything().session())),
        ("refuse", refuse(&Refusal::new(409, "no_project", "nothing"))),
    ];
    for (name, script) in scripts {
        let file = folder.path().join(name);
        fs::write(&file, script).unwrap();
        for parser in [&["sh", "-n"][..], &["dash", "-n"], &["busybox", "sh", "-n"]] {
            assert_silent(parser, &file);
        }
        if has("shellcheck") {
            assert_silent(&["shellcheck", "-s", "sh"], &file);
        } else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "shellcheck is not installed");
        }
    }
}

fn has(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

fn assert_silent(checker: &[&str], file: &Path) {
    let output = Command::new(checker[0]).args(&checker[1..]).arg(file).output().unwrap();
    assert!(output.status.success(), "{checker:?} {}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stderr.is_empty(), "{checker:?} {}", String::from_utf8_lossy(&output.stderr));
}
