//! The scripts, run for real: by dash with the tools of this system and by busybox with its own, against a station
//! of a few lines, onto a plain file.

mod station;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::core::device::{Facts, Mac};
use crate::core::image::Digest;
use crate::core::plan::{Plan, SessionId};
use crate::core::project::ProjectId;
use crate::core::session::Life;
use crate::core::time::Timestamp;
use station::{Form, Image, Say, Station};

const MIB: usize = 1 << 20;
const STORY: [&str; 5] = ["write started", "write completed", "verify started", "verify completed", "finished"];

/// The tools of the script that busybox must have; curl comes from the system.
const APPLETS: [&str; 18] = [
    "awk", "blockdev", "cat", "dd", "head", "mktemp", "printf", "rm", "sed", "sh", "sha256sum", "sleep", "stat", "sync",
    "tail", "tr", "wc", "xz",
];

/// A shell and the tools that it finds.
struct World {
    name: &'static str,
    shell: &'static [&'static str],
    path: String,
    folder: TempDir,
}

impl World {
    fn both() -> [Self; 2] {
        let system = std::env::var("PATH").unwrap();
        let busybox = Self::new("busybox", &["busybox", "sh"], "");
        let bin = busybox.folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for applet in APPLETS {
            symlink(found("busybox"), bin.join(applet)).unwrap();
        }
        symlink(found("curl"), bin.join("curl")).unwrap();
        symlink(found("busybox"), bin.join("busybox")).unwrap();
        let path = bin.to_str().unwrap().to_owned();
        [Self::new("dash", &["dash"], &system), Self { path, ..busybox }]
    }

    fn new(name: &'static str, shell: &'static [&'static str], path: &str) -> Self {
        Self { name, shell, path: path.to_owned(), folder: tempfile::tempdir().unwrap() }
    }

    /// Puts a tool before the others.
    fn stub(&mut self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let folder = self.folder.path().join("stubs");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self.path = format!("{}:{}", folder.display(), self.path);
    }

    fn medium(&self) -> PathBuf {
        self.folder.path().join("medium")
    }

    /// A medium full of old data.
    fn with_medium(&self, size: usize) {
        fs::write(self.medium(), vec![0xaa; size]).unwrap();
    }

    fn run(&self, script: &str) -> Output {
        let file = self.folder.path().join("script");
        fs::write(&file, script).unwrap();
        let work = self.folder.path().join("tmp");
        fs::create_dir_all(&work).unwrap();
        let output = Command::new(found(self.shell[0]))
            .args(&self.shell[1..])
            .arg(&file)
            .env_clear()
            .env("PATH", &self.path)
            .env("TMPDIR", &work)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "{}: left something behind", self.name);
        output
    }

    /// Runs the script of a job against a station, with the medium of this world.
    fn provision(&self, job: &Job, station: &Station) -> Output {
        self.run(&self.script(job, station))
    }

    fn script(&self, job: &Job, station: &Station) -> String {
        let setting = Setting { server: station.address, progress_seconds: 1 };
        let script = render(&setting, Serial(0x1000_0000_a1b2_c3d4), &job.session());
        let medium = format!("STORAGE='{}'\n", self.medium().display());
        assert!(script.contains("STORAGE='/dev/mmcblk0'\n"));
        script.replacen("STORAGE='/dev/mmcblk0'\n", &medium, 1)
    }

    fn assert_failed(&self, output: &Output, code: &str) {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{}: {said}", self.name);
        assert!(said.contains("Provisioning failed: ") && said.contains(code), "{}: {said}", self.name);
        assert!(!said.contains("completed successfully"), "{}: {said}", self.name);
    }

    fn assert_wiped(&self) {
        assert!(fs::read(self.medium()).unwrap()[..MIB].iter().all(|byte| *byte == 0), "{}: would boot", self.name);
    }

    fn assert_untouched(&self) {
        assert!(fs::read(self.medium()).unwrap().iter().all(|byte| *byte == 0xaa), "{}: was written", self.name);
    }
}

/// An image and what the plan says of it.
struct Job {
    raw: Vec<u8>,
    served: Vec<u8>,
    compression: Compression,
    regular_file: bool,
    raw_size: usize,
    raw_sha256: Digest,
}

impl Job {
    fn raw(size: usize) -> Self {
        let raw = noise(size);
        Self {
            served: raw.clone(),
            compression: Compression::Raw,
            regular_file: true,
            raw_size: size,
            raw_sha256: digest(&raw),
            raw,
        }
    }

    fn xz(size: usize) -> Self {
        let job = Self::raw(size);
        Self { served: packed(&job.raw), compression: Compression::Xz, ..job }
    }

    fn image(&self) -> Image {
        Image { body: self.served.clone(), cut_after: None, wait_for_progress: false }
    }

    /// A station that takes everything.
    fn station(&self) -> Station {
        Station::start(self.image(), |_, _| Say::Status(200))
    }

    fn session(&self) -> Session {
        Session {
            id: SessionId(Uuid::nil()),
            mac: Mac::new([0xe4, 0x5f, 1, 2, 3, 4]),
            attempt: 1,
            project: ProjectId::from_name("gateway").unwrap(),
            facts: Facts::default(),
            plan: Plan {
                image: digest(&self.served),
                compression: self.compression,
                size_bytes: self.served.len() as u64,
                raw_sha256: self.raw_sha256,
                raw_size_bytes: self.raw_size as u64,
                storage: StoragePath::default(),
                regular_file: self.regular_file,
            },
            token: "secret-token".parse().unwrap(),
            started_at: Timestamp::default(),
            running: None,
            done: Vec::new(),
            ended: None,
            life: Life::default(),
        }
    }
}

/// Bytes that do not repeat, with a stretch of zeros that must be written too.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut bytes: Vec<u8> = (0..size)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    let third = size / 3;
    bytes[third..third * 2].fill(0);
    bytes
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn found(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let file = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file());
    file.unwrap_or_else(|| panic!("{tool} is not installed: tests/run installs what the tests need"))
}

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
fn a_script_that_was_cut_off_on_its_way_does_nothing() {
    let [dash, _] = World::both();
    let job = Job::raw(512);
    let station = job.station();
    dash.with_medium(MIB);
    let script = dash.script(&job, &station);
    for end in (0..script.len() - 2).step_by(211).chain([script.len() - 2]).filter(|end| script.is_char_boundary(*end)) {
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
fn a_connection_that_is_cut_fails_the_write() {
    for (world, job) in World::both().iter().flat_map(|w| [(w, Job::raw(3 * MIB)), (w, Job::xz(3 * MIB))]) {
        let image = Image { cut_after: Some(job.served.len() * 2 / 3), ..job.image() };
        let station = Station::start(image, |_, _| Say::Status(200));
        world.with_medium(4 * MIB);
        let output = world.provision(&job, &station);
        world.assert_failed(&output, "write.download");
        assert_eq!(station.story(), ["write started", "write failed write.download"]);
        assert!(values(&station.reports.lock().unwrap()[1], "detail")[0].contains("(18)"));
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
        let story = ["storage.missing", "storage.too_small", "storage.not_a_disk"].map(|code| format!("write failed {code}"));
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
        ("provision", render(&setting, Serial(1), &Job::raw(512).session())),
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
