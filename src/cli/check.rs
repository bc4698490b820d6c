//! `bootline check`: the doctor.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::app::check::{self, Finding, Level};
use crate::cli::exit;
use crate::config;

/// Looks at the configuration and what is around the station, and says what to do about each fault. Changes nothing.
///
/// Exit code 0: nothing worse than a note. 2: warnings. 1: a fault, so that the station would not run or devices would
/// not boot from it. 78: the configuration cannot be read. It may be asked beside a running agent; as root it sees more.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  sudo bootline check --config conf/bootline.yml")]
pub struct Args {
    /// The configuration; else ./conf/bootline.yml or /etc/bootline/bootline.yml
    #[arg(long, env = "BOOTLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Where database and images are; overrides the file
    #[arg(long)]
    data: Option<PathBuf>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Warnings and nothing worse.
const WARNED: u8 = 2;

pub fn run(args: Args) -> ExitCode {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let path = match config::find(args.config) {
        Ok(path) => path,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let config = match config::load(&path, &environment, args.data) {
        Ok(config) => config,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::say(exit::SOFTWARE, &error.into()),
    };
    let findings = runtime.block_on(check::examine(&config));
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let out = &mut io::stdout().lock();
    let said = match args.json {
        true => writeln!(out, "{:#}", json!({"config": path, "worst": worst, "findings": findings})),
        false => show(out, &path.display().to_string(), &findings),
    };
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::say(exit::IO, &error.into()),
        _ => match worst {
            Level::Ok | Level::Note => ExitCode::SUCCESS,
            Level::Warning => ExitCode::from(WARNED),
            Level::Fault => ExitCode::from(exit::FOUND),
        },
    }
}

fn show(out: &mut dyn Write, config: &str, findings: &[Finding]) -> io::Result<()> {
    writeln!(out, "ok       configuration  {config}")?;
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "WARNING",
            Level::Fault => "FAULT",
        };
        writeln!(out, "{level:<8} {:<14} {}", finding.subject, finding.what)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "{:24}> {advice}", "")?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    writeln!(out, "{} faults, {} warnings", count(Level::Fault), count(Level::Warning))
}
