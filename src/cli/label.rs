//! `bootline label test`: a test label on a printer.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::app::label_test::print;
use crate::cli::exit;
use crate::config;

/// The printers of the configuration.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    Test(TestArgs),
}

/// Prints a test label directly, past the queue of the agent.
///
/// Exit code 0: the printer has taken it. 1: it has not, or there is no such printer.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline label test zebra-1 --config conf/bootline.yml")]
pub struct TestArgs {
    /// As the configuration calls it
    printer: String,
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
    let told = match runtime.block_on(print(&config, &args.printer)) {
        Ok(told) => told,
        Err(names) => {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let error =
                anyhow::anyhow!("there is no printer {:?} in the configuration; there is {names}", args.printer);
            return exit::say(exit::FOUND, &error);
        }
    };
    let out = &mut io::stdout().lock();
    let output = told.output.as_deref().unwrap_or_default();
    let said = match (&told.fault, args.json) {
        (_, true) => writeln!(out, "{:#}", json!(told)),
        (Some(fault), false) => writeln!(out, "{} ({}): {fault}", told.printer, told.way),
        (None, false) => writeln!(out, "{} ({}) has taken {} bytes. {output}", told.printer, told.way, told.bytes),
    };
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::say(exit::IO, &error.into()),
        _ if told.fault.is_some() => ExitCode::from(exit::FOUND),
        _ => ExitCode::SUCCESS,
    }
}
