//! `bootline run`: the agent, in the foreground.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::Agent;
use crate::cli::exit;
use crate::config;
use crate::telemetry::{self, LogFormat};

/// The agent, in the foreground; SIGTERM or Ctrl-C stops it in order.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline run --config conf/bootline.yml")]
pub struct Args {
    /// The configuration; else ./conf/bootline.yml or /etc/bootline/bootline.yml
    #[arg(long, env = "BOOTLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Where database and images are; overrides the file
    #[arg(long)]
    data: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
}

pub fn run(args: Args) -> ExitCode {
    telemetry::start(args.log);
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let config = config::find(args.config).and_then(|path| config::load(&path, &environment, args.data));
    let config = match config {
        Ok(config) => config,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::say(exit::SOFTWARE, &error.into()),
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

async fn serve(config: config::Config) -> Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let agent = Agent::bind(config).await?;
    let addresses = agent.addresses()?;
    tracing::info!(devices = %addresses.devices, operators = %addresses.operators, tftp = %addresses.tftp, mqtt = ?addresses.mqtt, "bound");
    let told = stop.clone();
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    let ended = agent.run(stop).await;
    signals.abort();
    ended
}
