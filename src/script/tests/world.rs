//! What a run of a script needs: a shell with its tools, a medium, and an image with its plan.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use uuid::Uuid;

use crate::core::device::{Facts, Mac, Serial};
use crate::core::firmware::FirmwarePlan;
use crate::core::image::{Compression, Digest};
use crate::core::observation::Vitals;
use crate::core::plan::{Plan, SessionId, StoragePath};
use crate::core::project::{ProjectId, StatusLed};
use crate::core::script::{DeviceData, FileName, Manner, OnFailure, PlannedScript, Scripts};
use crate::core::session::{Life, Session};
use crate::core::time::Timestamp;
use crate::script::tests::station::{Image, Say, Station};
use crate::script::{Setting, render};

pub const MIB: usize = 1 << 20;
/// The tools of the script that busybox must have; curl comes from the system.
const APPLETS: [&str; 25] = [
    "awk",
    "blockdev",
    "bunzip2",
    "cat",
    "cp",
    "date",
    "dd",
    "grep",
    "gunzip",
    "head",
    "mkdir",
    "mktemp",
    "printf",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tr",
    "wc",
    "xz",
];

/// A shell and the tools that it finds.
pub struct World {
    pub name: &'static str,
    shell: &'static [&'static str],
    path: String,
    folder: TempDir,
}

impl World {
    pub fn both() -> [Self; 2] {
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
    pub fn stub(&mut self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let folder = self.folder.path().join("stubs");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self.path = format!("{}:{}", folder.display(), self.path);
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A GPIO of a chip whose numbers begin at 512, as current kernels count; returns its folder.
    pub fn with_gpio(&self, number: u16) -> PathBuf {
        let root = self.gpio();
        fs::create_dir_all(root.join("gpiochip512")).unwrap();
        fs::write(root.join("gpiochip512/label"), "pinctrl-bcm2711\n").unwrap();
        fs::write(root.join("gpiochip512/base"), "512\n").unwrap();
        fs::write(root.join("export"), "").unwrap();
        let line = root.join(format!("gpio{}", 512 + number));
        fs::create_dir_all(&line).unwrap();
        fs::write(line.join("direction"), "in").unwrap();
        fs::write(line.join("value"), "").unwrap();
        line
    }

    fn gpio(&self) -> PathBuf {
        self.folder.path().join("gpio")
    }

    /// Where its LEDs are, if it has any.
    pub fn leds(&self) -> PathBuf {
        self.folder.path().join("leds")
    }

    pub fn medium(&self) -> PathBuf {
        self.folder.path().join("medium")
    }

    /// A medium full of old data.
    pub fn with_medium(&self, size: usize) {
        fs::write(self.medium(), vec![0xaa; size]).unwrap();
    }

    pub fn run(&self, script: &str) -> Output {
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
    pub fn provision(&self, job: &Job, station: &Station) -> Output {
        self.run(&self.script(job, station))
    }

    pub fn script(&self, job: &Job, station: &Station) -> String {
        let setting = Setting { server: station.address, progress_seconds: 1 };
        let script = render(&setting, Serial(0x1000_0000_a1b2_c3d4), &job.session());
        let medium = format!("STORAGE='{}'\n", self.medium().display());
        assert!(script.contains("STORAGE='/dev/mmcblk0'\n"));
        let script = script.replacen("STORAGE='/dev/mmcblk0'\n", &medium, 1);
        script
            .replace("/sys/class/gpio", &self.gpio().display().to_string())
            .replace("/sys/class/leds", &self.leds().display().to_string())
    }

    pub fn assert_failed(&self, output: &Output, code: &str) {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{}: {said}", self.name);
        assert!(said.contains("Provisioning failed: ") && said.contains(code), "{}: {said}", self.name);
        assert!(!said.contains("completed successfully"), "{}: {said}", self.name);
    }

    pub fn assert_wiped(&self) {
        assert!(fs::read(self.medium()).unwrap()[..MIB].iter().all(|byte| *byte == 0), "{}: would boot", self.name);
    }

    pub fn assert_untouched(&self) {
        assert!(fs::read(self.medium()).unwrap().iter().all(|byte| *byte == 0xaa), "{}: was written", self.name);
    }
}

/// An image and what the plan says of it.
pub struct Job {
    pub raw: Vec<u8>,
    pub served: Vec<u8>,
    pub compression: Compression,
    pub regular_file: bool,
    pub raw_size: usize,
    pub raw_sha256: Digest,
    pub firmware: Option<FirmwarePlan>,
    pub status_led: Option<StatusLed>,
    pub preinstall: Vec<Site>,
    pub postinstall: Vec<Site>,
    pub data: DeviceData,
    pub data_file: Option<FileName>,
}

/// A script of the site, and how it is run.
#[derive(Clone)]
pub struct Site {
    pub id: &'static str,
    pub text: String,
    pub manner: Manner,
}

impl Site {
    pub fn new(id: &'static str, text: &str) -> Self {
        let manner = Manner { on_failure: OnFailure::Fail, background: false, timeout_s: 60 };
        Self { id, text: text.to_owned(), manner }
    }

    fn planned(&self) -> PlannedScript {
        PlannedScript { script: self.id.parse().unwrap(), revision: 1, manner: self.manner }
    }
}

impl Job {
    pub fn raw(size: usize) -> Self {
        let raw = noise(size);
        Self {
            served: raw.clone(),
            compression: Compression::Raw,
            regular_file: true,
            raw_size: size,
            raw_sha256: digest(&raw),
            firmware: None,
            status_led: None,
            preinstall: Vec::new(),
            postinstall: Vec::new(),
            data: DeviceData::default(),
            data_file: None,
            raw,
        }
    }

    pub fn xz(size: usize) -> Self {
        let job = Self::raw(size);
        Self { served: packed(&job.raw), compression: Compression::Xz, ..job }
    }

    /// The same image, packed in another way.
    pub fn packed_as(size: usize, compression: Compression) -> Self {
        let job = Self::raw(size);
        let served = match compression {
            Compression::Gz => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&job.raw).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bz2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(&job.raw).unwrap();
                encoder.finish().unwrap()
            }
            _ => packed(&job.raw),
        };
        Self { served, compression, ..job }
    }

    pub fn image(&self) -> Image {
        let sites = self.preinstall.iter().chain(&self.postinstall);
        Image {
            body: self.served.clone(),
            cut_after: None,
            resumes: false,
            wait_for_progress: false,
            identify_in: None,
            firmware: Vec::new(),
            cuts: 0,
            scripts: sites.map(|site| (site.id.to_owned(), site.text.clone())).collect(),
        }
    }

    /// A station that takes everything.
    pub fn station(&self) -> Station {
        Station::start(self.image(), |_, _| Say::Status(200))
    }

    pub fn session(&self) -> Session {
        Session {
            id: SessionId(Uuid::nil()),
            mac: Mac::new([0xe4, 0x5f, 1, 2, 3, 4]),
            attempt: 1,
            project: ProjectId::from_name("gateway").unwrap(),
            facts: Facts::default(),
            circuit: None,
            switch_port: None,
            slot: None,
            plan: Plan {
                image: digest(&self.served),
                compression: self.compression,
                size_bytes: self.served.len() as u64,
                transcoded: false,
                raw_sha256: self.raw_sha256,
                raw_size_bytes: self.raw_size as u64,
                storage: StoragePath::default(),
                firmware: self.firmware.clone(),
                status_led: self.status_led,
                scripts: Scripts {
                    preinstall: self.preinstall.iter().map(Site::planned).collect(),
                    postinstall: self.postinstall.iter().map(Site::planned).collect(),
                },
                data_file: self.data_file.clone(),
                regular_file: self.regular_file,
            },
            token: "secret-token".parse().unwrap(),
            started_at: Timestamp::default(),
            running: None,
            done: Vec::new(),
            warnings: Vec::new(),
            data: self.data.clone(),
            ended: None,
            vitals: Vitals::default(),
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

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn found(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let file = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file());
    file.unwrap_or_else(|| panic!("{tool} is not installed: tests/run installs what the tests need"))
}
