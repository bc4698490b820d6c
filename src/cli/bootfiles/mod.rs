//! `bootline bootfiles check` and `import`: the files that modules boot from.

mod show;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::bootfiles::BootFiles;
use crate::bootfiles::check::{Report, check};
use crate::bootfiles::import::{Order, Target, import};
use crate::bootfiles::model::Model;
use crate::cli::exit;
use crate::config::{self, Config, ConfigError};

/// The files that modules boot from: say what is missing, take over a folder.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    Check(CheckArgs),
    Import(ImportArgs),
}

/// Says for each model which boot files are there, missing or unsuitable.
///
/// A model is looked at closely when a device tree of it is there. Exit code 0: each of these models boots, there is
/// one at least, and no fault was found. Exit code 1: a fault. It reads the folder alone: lines that projects add to
/// config.txt are not seen.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline bootfiles check --model cm4")]
pub struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// This model alone: pi3, cm3, pi4, cm4, pi5, cm5
    #[arg(long)]
    model: Option<Model>,
}

/// Takes over the boot files of an unpacked raspberrypi/firmware, or of the predecessor's scriptexecute folder.
///
/// Copies files with known names, each whole or not at all, and then says what `check` says. An address in the
/// script= of cmdline.txt becomes {server}. Overlays that lie flat go to overlays/. EEPROM images and rescue systems are
/// left, and so are links that lead out of DIR. Exit code 0: taken over. Exit code 1: a different file was in the way
/// (see --force); the others were taken over.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  bootline bootfiles import cmprovision/scriptexecute\n  bootline bootfiles import firmware --family 2712\n  bootline bootfiles import new-kernel --into projects/gateway --dry-run"
)]
pub struct ImportArgs {
    /// An unpacked raspberrypi/firmware, its boot/, or a scriptexecute/ folder
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Into the set of a family, its own files alone: 2710 (Pi 3), 2711 (Pi 4, CM4), 2712 (Pi 5, CM5)
    #[arg(long, value_parser = ["2710", "2711", "2712"], conflicts_with = "into")]
    family: Option<String>,
    /// Into the folder of a project or a device: projects/gateway, c0ffee12, dc-a6-32-01-36-c2
    #[arg(long)]
    into: Option<Target>,
    /// Say what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace files that differ
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args, Debug)]
struct Common {
    /// The configuration, which names the folder of boot files; else ./conf/bootline.yml or /etc/bootline/bootline.yml
    #[arg(long, env = "BOOTLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

impl Common {
    fn load(&self) -> Result<Config, ConfigError> {
        let environment: BTreeMap<String, String> = std::env::vars().collect();
        config::find(self.config.clone()).and_then(|path| config::load(&path, &environment, None))
    }
}

pub fn run(verb: Verb) -> ExitCode {
    let common = match &verb {
        Verb::Check(args) => &args.common,
        Verb::Import(args) => &args.common,
    };
    let config = match common.load() {
        Ok(config) => config,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let done = match verb {
        Verb::Check(args) => run_check(&args, &config),
        Verb::Import(args) => run_import(args, config),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::FOUND),
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn run_check(args: &CheckArgs, config: &Config) -> Result<bool> {
    let report = checked(config, args.model)?;
    print(|out| match args.common.json {
        true => writeln!(out, "{:#}", json!(report)),
        false => show::report(out, &report),
    })?;
    Ok(report.ok)
}

fn run_import(args: ImportArgs, config: Config) -> Result<bool> {
    let place = match args.family {
        Some(family) => family.parse().map_err(anyhow::Error::msg)?,
        None => args.into.unwrap_or_default(),
    };
    let to = config.tftp.bootfiles.clone();
    let order = Order { from: args.dir, to, place, dry_run: args.dry_run, force: args.force };
    let imported = import(&order).context("nothing more was imported")?;
    let report = config.tftp.bootfiles.is_dir().then(|| checked(&config, None)).transpose()?;
    print(|out| {
        if args.common.json {
            return writeln!(out, "{:#}", json!({"import": imported, "check": report}));
        }
        show::imported(out, &imported)?;
        writeln!(out)?;
        report.iter().try_for_each(|report| show::report(out, report))
    })?;
    Ok(!imported.in_the_way())
}

fn checked(config: &Config, model: Option<Model>) -> Result<Report> {
    let folder = &config.tftp.bootfiles;
    if !folder.is_dir() {
        bail!(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no folder of boot files at {}", folder.display())
        ));
    }
    Ok(check(&BootFiles::new(folder.clone(), config.tftp.devices_http), model)?)
}

/// Whoever reads only the beginning (`| head`) has what they wanted.
fn print(say: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    match say(&mut io::stdout().lock()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said.context("cannot write to standard output"),
    }
}
