//! One model: what its boot asks for, in the places where it would look.

use std::fs::File;
use std::io::Read;

use crate::bootfiles::NotServed;
use crate::bootfiles::check::cmdline;
use crate::bootfiles::check::content::{self, Width};
use crate::bootfiles::check::{Finding, Level, ModelReport, Row, State};
use crate::bootfiles::config_txt::{self, Settings};
use crate::bootfiles::folder::Folder;
use crate::bootfiles::model::Model;
use crate::bootfiles::render::built_in;
use crate::core::device::Family;

pub struct Board<'a> {
    folder: &'a Folder<'a>,
    server: &'a str,
    /// Nearest to the device first.
    places: Vec<String>,
    model: Model,
    rows: Vec<Row>,
    findings: Vec<Finding>,
    prepared: bool,
}

/// Files that show that a family is meant, should its device trees be missing.
const fn marks(model: Model) -> &'static [&'static str] {
    match model {
        Model::Pi3 => &["start.elf", "bootcode.bin"],
        Model::Pi4 | Model::Cm4 => &["start4.elf"],
        Model::Pi5 | Model::Cm5 => &["kernel_2712.img"],
        Model::Cm3 => &[],
    }
}

impl<'a> Board<'a> {
    pub const fn new(folder: &'a Folder<'a>, server: &'a str, places: Vec<String>, model: Model) -> Self {
        Self { folder, server, places, model, rows: Vec::new(), findings: Vec::new(), prepared: false }
    }

    pub fn report(mut self) -> ModelReport {
        let settings = self.config();
        if settings.is_on("boot_ramdisk") {
            self.prepared = self.needed("memory disk", &["boot.img".to_owned()], Level::Fault, None);
        } else {
            self.firmware(&settings);
            self.kernel(&settings);
            self.initramfs(&settings);
            self.trees(&settings);
            self.overlays(&settings);
            self.cmdline(&settings);
        }
        if let Some(note) = self.model.note() {
            self.say(Level::Note, format!("{} {note}", self.model.title()));
        }
        let marked = marks(self.model).iter().any(|mark| self.open(mark).is_ok());
        ModelReport {
            marked,
            model: self.model,
            title: self.model.title(),
            prepared: self.prepared,
            boots: self.findings.iter().all(|finding| finding.level < Level::Fault),
            files: self.rows,
            findings: self.findings,
        }
    }

    fn say(&mut self, level: Level, text: impl Into<String>) {
        self.findings.push(Finding::new(level, text));
    }

    fn config(&mut self) -> Settings {
        let text = self.text("config.txt", "config.txt");
        let bytes = text.replace("{server}", self.server).len();
        if bytes >= 4096 {
            self.say(Level::Warning, format!("config.txt has {bytes} bytes: firmware may ignore it from 4096 on"));
        }
        let text = self.with_includes(&text, 0);
        config_txt::read(&text, self.model)
    }

    /// An `include` takes in another file, filters and all.
    fn with_includes(&mut self, text: &str, depth: usize) -> String {
        let mut whole = String::new();
        for line in text.lines() {
            let included = line.trim().strip_prefix("include").and_then(|rest| rest.strip_prefix([' ', '\t']));
            match included.map(str::trim).filter(|_| depth < 3) {
                Some(name) => match self.open(name) {
                    Ok((_, file, _)) => whole.push_str(&self.with_includes(&read(file), depth + 1)),
                    Err(_) => self.say(Level::Warning, format!("config.txt includes {name}, which is not there")),
                },
                None => whole.push_str(line),
            }
            whole.push('\n');
        }
        whole
    }

    fn firmware(&mut self, settings: &Settings) {
        let family = self.model.family();
        if family == Family::Pi5 {
            return; // Its firmware is in its EEPROM.
        }
        if self.model == Model::Pi3 {
            self.needed("first stage", &["bootcode.bin".to_owned()], Level::Fault, None);
        }
        let four = if family == Family::Pi4 { "4" } else { "" };
        let short = settings.last("gpu_mem").is_some_and(|memory| memory == "16");
        let variant = match () {
            () if settings.is_on("start_x") => "x",
            () if settings.is_on("start_debug") => "db",
            () if short => "cd",
            () => "",
        };
        let variant =
            if variant.is_empty() || family == Family::Pi4 { variant.to_owned() } else { format!("_{variant}") };
        let named =
            |key, stem, end| settings.last(key).map_or_else(|| format!("{stem}{four}{variant}.{end}"), str::to_owned);
        let (start, fixup) = (named("start_file", "start", "elf"), named("fixup_file", "fixup", "dat"));
        self.needed("firmware", &[start], Level::Fault, None);
        self.needed("firmware's fix-up", &[fixup], Level::Warning, None);
    }

    fn kernel(&mut self, settings: &Settings) {
        let width = match (self.model.family(), settings.last("arm_64bit")) {
            (Family::Pi5, _) | (_, Some("1")) => Width::Bits64,
            (_, Some("0")) => Width::Bits32,
            _ => Width::Either,
        };
        let names: Vec<String> = match settings.last("kernel") {
            Some(name) => vec![name.to_owned()],
            None => {
                let fits = |name: &&&str| width != Width::Bits32 || **name != "kernel8.img";
                self.model.kernels().iter().filter(fits).map(|name| (*name).to_owned()).collect()
            }
        };
        self.needed("kernel", &prefixed(settings, &names), Level::Fault, Some(width));
        if let Some(stub) = settings.last("armstub") {
            self.needed("stub", &[stub.to_owned()], Level::Warning, None);
        }
    }

    fn initramfs(&mut self, settings: &Settings) {
        let lines = settings.all("initramfs").chain(settings.all("ramfsfile"));
        let named = lines.flat_map(|line| line.split_whitespace().next().unwrap_or_default().split(','));
        let named: Vec<String> = named.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if named.is_empty() && settings.is_on("auto_initramfs") {
            let names = match self.model.family() {
                Family::Pi5 => vec!["initramfs_2712".to_owned()],
                Family::Pi4 => vec!["initramfs8".to_owned(), "initramfs7l".to_owned()],
                Family::Pi3 => vec!["initramfs8".to_owned(), "initramfs7".to_owned()],
            };
            self.needed("initramfs", &prefixed(settings, &names), Level::Warning, None);
        } else if named.is_empty() {
            self.say(Level::Note, "config.txt names no initramfs: the kernel must bring its own system");
        }
        for name in named {
            self.needed("initramfs", &prefixed(settings, &[name]), Level::Fault, None);
        }
    }

    fn trees(&mut self, settings: &Settings) {
        if let Some(name) = settings.last("device_tree").filter(|name| !name.is_empty()) {
            self.prepared = self.needed("device tree", &prefixed(settings, &[name.to_owned()]), Level::Fault, None);
            return;
        }
        let found: Vec<bool> = self
            .model
            .trees()
            .iter()
            .map(|tree| {
                let names: Vec<String> = tree.names.iter().map(|name| (*name).to_owned()).collect();
                self.needed(
                    &format!("device tree of {}", tree.board),
                    &prefixed(settings, &names),
                    Level::Warning,
                    None,
                )
            })
            .collect();
        self.prepared = found.contains(&true);
        if !self.prepared {
            self.say(Level::Fault, format!("no device tree of {} is there", self.model.title()));
        }
    }

    fn overlays(&mut self, settings: &Settings) {
        let mut names: Vec<&str> =
            settings.all("dtoverlay").map(|value| value.split([',', ':']).next().unwrap_or_default()).collect();
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        let folder = settings.last("overlay_prefix").unwrap_or("overlays/");
        for name in names {
            let name = format!("{folder}{name}.dtbo");
            self.needed("overlay", &prefixed(settings, &[name]), Level::Warning, None);
        }
    }

    fn cmdline(&mut self, settings: &Settings) {
        let name = settings.last("cmdline").unwrap_or("cmdline.txt").to_owned();
        let text = self.text("command line", &name);
        self.findings.extend(cmdline::judge(&name, &text, self.server));
    }

    /// The text of a template as it lies there, or as it is built in.
    fn text(&mut self, what: &str, name: &str) -> String {
        match (self.open(name), built_in(name)) {
            (Ok((place, file, size)), _) => {
                self.row(what, name, Some((place, size)), State::There);
                read(file)
            }
            (Err(NotServed::Missing), Some(text)) => {
                self.row(what, name, None, State::BuiltIn);
                text.to_owned()
            }
            (Err(why), _) => {
                self.row(what, name, None, state(&why));
                self.say(Level::Fault, format!("{name}: {why}"));
                String::new()
            }
        }
    }

    /// Adds a row, and what is wrong with the file; true if one of the names is there. What is missing weighs `level`.
    fn needed(&mut self, what: &str, names: &[String], level: Level, width: Option<Width>) -> bool {
        let first = names.first().cloned().unwrap_or_default();
        for name in names {
            match self.open(name) {
                Ok((place, file, size)) => {
                    let wrong = content::look(name, &file, size, width);
                    let unsuitable = wrong.iter().any(|finding| finding.level == Level::Fault);
                    let state = if unsuitable { State::Unsuitable } else { State::There };
                    self.row(what, name, Some((place, size)), state);
                    self.findings.extend(wrong);
                    return true;
                }
                Err(NotServed::Missing) => {}
                Err(why) => {
                    self.row(what, name, None, state(&why));
                    self.say(Level::Fault, format!("{name}: {why}"));
                    return true;
                }
            }
        }
        self.row(what, &first, None, State::Missing);
        let others = if names.len() > 1 { format!(" (nor {})", names[1..].join(", ")) } else { String::new() };
        self.say(level, format!("{what}: {first} is missing{others}"));
        false
    }

    fn row(&mut self, what: &str, file: &str, found: Option<(String, u64)>, state: State) {
        let (place, bytes) = found.unzip();
        self.rows.push(Row { what: what.to_owned(), file: file.to_owned(), place, bytes, state });
    }

    fn open(&self, path: &str) -> Result<(String, File, u64), NotServed> {
        for place in &self.places {
            match crate::bootfiles::look(self.folder, place, path) {
                Ok((file, stamp)) => return Ok((place.clone(), file, stamp.size)),
                Err(NotServed::Missing) => {}
                Err(why) => return Err(why),
            }
        }
        Err(NotServed::Missing)
    }
}

const fn state(why: &NotServed) -> State {
    match why {
        NotServed::Missing => State::Missing,
        NotServed::Denied | NotServed::TooLarge { .. } | NotServed::Unreadable { .. } => State::Unsuitable,
    }
}

/// `os_prefix` is tried first, and passed over where it leads to nothing.
fn prefixed(settings: &Settings, names: &[String]) -> Vec<String> {
    let prefix = settings.last("os_prefix").filter(|prefix| !prefix.is_empty());
    let with = prefix.into_iter().flat_map(|prefix| names.iter().map(move |name| format!("{prefix}{name}")));
    with.chain(names.iter().cloned()).collect()
}

/// Nothing longer is a text.
fn read(file: File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read to its end is judged by what was read.
    let _ = file.take(1 << 20).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
