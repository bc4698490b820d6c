//! `bootline switch test`: what the switches tell.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::app::switch_test::{Told, switches};
use crate::cli::exit;
use crate::config;

/// The managed switches of the configuration.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    Test(TestArgs),
}

/// Asks each switch for its whole table and shows MAC, port and slot. Changes nothing.
///
/// Exit code 0: every switch has answered. 1: one has not, or there is none in the configuration.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline switch test --config conf/bootline.yml")]
pub struct TestArgs {
    /// The configuration; else ./conf/bootline.yml or /etc/bootline/bootline.yml
    #[arg(long, env = "BOOTLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

pub fn run(verb: Verb) -> ExitCode {
    let Verb::Test(args) = verb;
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let loaded = config::find(args.config).and_then(|path| config::load(&path, &environment, None));
    let config = match loaded {
        Ok(config) => config,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::say(exit::SOFTWARE, &error.into()),
    };
    let told = runtime.block_on(switches(&config));
    let out = &mut io::stdout().lock();
    let said = match args.json {
        true => writeln!(out, "{:#}", json!({"switches": told})),
        false => show(out, &told),
    };
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::say(exit::IO, &error.into()),
        _ if told.is_empty() || told.iter().any(|switch| switch.fault.is_some()) => ExitCode::from(exit::FOUND),
        _ => ExitCode::SUCCESS,
    }
}

fn show(out: &mut dyn Write, told: &[Told]) -> io::Result<()> {
    if told.is_empty() {
        return writeln!(out, "no switches in the configuration");
    }
    for switch in told {
        match &switch.fault {
            Some(fault) => writeln!(out, "{}: {fault}", switch.switch)?,
            None => writeln!(
                out,
                "{} at {}: {} addresses, {} packets",
                switch.switch,
                switch.address,
                switch.seen.len(),
                switch.packets
            )?,
        }
        for seen in &switch.seen {
            let place = match (&seen.slot, seen.uplink) {
                (_, true) => "uplink",
                (Some(slot), false) => slot,
                (None, false) => "-",
            };
            let alias = seen.alias.as_deref().unwrap_or_default();
            writeln!(out, "  {}  {:<24} {:<24} {place}", seen.mac, seen.port, alias)?;
        }
    }
    Ok(())
}
