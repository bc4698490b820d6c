//! `bootline simulate`: simulated devices against a station that runs elsewhere on the segment.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use crate::cli::exit;
use crate::cli::figures::Figures;
use crate::cli::interrupt::interrupted;
use crate::cli::mix::{Share, devices, pause};
use crate::cli::size::Size;
use crate::cli::tally::Tally;
use crate::cli::tools;
use crate::core::device::Mac;
use crate::simulator::board::{Firmware, Model};
use crate::simulator::cage::Scratch;
use crate::simulator::fleet::{Addresses, Fleet, Settings};
use crate::simulator::line::in_full;

/// Simulated devices against a station that runs elsewhere on the segment.
///
/// Each device speaks real DHCP, TFTP and HTTP through a link of its own and runs the served script in a cage of
/// namespaces, on a plain file as its eMMC. Nothing of this host can be written. Needs root, or to be root in a user
/// namespace that owns the interface. On a bridge each device gets a port; on another interface a macvlan, which does
/// not reach this host's own address there. All are powered on at the same moment.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  bootline simulate --devices 20 --interface eth1\n  \
    bootline simulate --model cm4=80,cm5=20 --dry-boot --interface eth1")]
pub struct Args {
    /// How many devices, at most 500 [default: one, or one of each model named]
    #[arg(long)]
    pub devices: Option<u16>,
    /// pi3, pi4, cm4, pi5, cm5: one, several, or a mix such as cm4=80,cm5=20 [default: cm4]
    #[arg(long, value_delimiter = ',')]
    pub model: Vec<Share>,
    /// How old the bootloader of pi4 and cm4 is
    #[arg(long, value_enum, default_value_t)]
    pub firmware: Firmware,
    /// The interface of the station's segment: a bridge, or one that macvlans can be put on
    #[arg(long)]
    pub interface: String,
    /// Size of each device's medium
    #[arg(long, default_value = "64MiB")]
    pub medium_size: Size,
    /// Seconds that a device may take from power-on to the end of its script
    #[arg(long, default_value_t = 600)]
    pub timeout: u64,
    /// From power to link: about 3s on real boards
    #[arg(long, default_value = "0ms", value_parser = pause)]
    pub link_delay: Duration,
    /// Between the power of one device and that of the next
    #[arg(long, default_value = "0ms", value_parser = pause)]
    pub power_gap: Duration,
    /// Fetch the script and do not run it: for load figures. The station waits for such a device until it gives it up
    #[arg(long)]
    pub dry_boot: bool,
    /// Address of the first device, to be the same devices again [default: a random one]
    #[arg(long)]
    pub first: Option<Mac>,
    /// Leave the media of the devices in this new folder, to be looked at
    #[arg(long, value_name = "DIR")]
    pub keep: Option<std::path::PathBuf>,
    /// A machine-readable result as the last line of standard output
    #[arg(long)]
    pub json: bool,
}

/// Must be called before any thread exists.
pub fn run(args: &Args) -> ExitCode {
    if let Some(complaint) = tools::missing() {
        eprintln!("bootline: {complaint}");
        return ExitCode::from(exit::UNAVAILABLE);
    }
    let models = match devices(&args.model, args.devices) {
        Ok(models) => models,
        Err(complaint) => {
            eprintln!("bootline: {complaint}");
            return ExitCode::from(exit::USAGE);
        }
    };
    match begin(args, models) {
        Ok(code) => code,
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn begin(args: &Args, models: Vec<Model>) -> Result<ExitCode> {
    let scratch = match &args.keep {
        Some(folder) => Scratch::at(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?,
        None => Scratch::new("simulate").context("cannot make a temporary folder")?,
    };
    // One thread: the devices die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(simulate(args, models, &scratch));
    // The devices before their folder.
    drop(runtime);
    if args.keep.is_some() {
        scratch.keep();
    }
    code
}

async fn simulate(args: &Args, models: Vec<Model>, scratch: &Scratch) -> Result<ExitCode> {
    let begun = Instant::now();
    let settings = Settings {
        models,
        firmware: args.firmware,
        interface: args.interface.clone(),
        folder: scratch.path().to_owned(),
        medium_bytes: args.medium_size.0,
        timeout: Duration::from_secs(args.timeout),
        dhcp_again: Duration::from_secs(4),
        addresses: args.first.map_or(Addresses::Random, Addresses::From),
        power_gap: args.power_gap,
        link_delay: args.link_delay,
        dry: args.dry_boot,
    };
    let fleet = match Fleet::muster(settings).await {
        Ok(fleet) => fleet,
        Err(error) if error.is_permission() => return Ok(forbidden(&in_full(&error))),
        Err(error) => return Err(error.into()),
    };
    let models: BTreeMap<Mac, Model> = fleet.devices().iter().map(|device| (device.mac, device.model)).collect();
    let mut tally = Tally::default();
    tokio::select! {
        () = follow(fleet, &mut tally) => {}
        signal = interrupted() => return Ok(signal?),
    }
    if let Some(why) = tally.refusal() {
        return Ok(forbidden(why));
    }
    let figures = Figures { tally: &tally, models, seconds: begun.elapsed().as_secs_f64() };
    if args.json {
        println!("{}", figures.summary());
    } else {
        println!("{}", figures.table());
    }
    let all = figures.passed() == figures.models.len();
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets the fleet live and writes down what it says; progress goes to standard error.
async fn follow(fleet: Fleet, tally: &mut Tally) {
    let count = fleet.devices().len();
    let bar = if stderr().is_terminal() { progress_bar(count) } else { indicatif::ProgressBar::hidden() };
    // A slow reader slows the telling down, not the devices.
    let (news, mut heard) = mpsc::channel(64);
    let listen = async {
        while let Some(news) = heard.recv().await {
            let words = tally.note(news);
            if bar.is_hidden() {
                eprintln!("{words}");
            } else {
                bar.println(words);
                bar.set_position(u64::try_from(tally.ended()).unwrap_or(u64::MAX));
            }
        }
    };
    tokio::join!(fleet.run(news), listen);
    bar.finish_and_clear();
}

fn progress_bar(count: usize) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} devices are through")
        .expect("the template is a constant");
    indicatif::ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX)).with_style(style)
}

fn forbidden(why: &str) -> ExitCode {
    eprintln!("bootline: {why}; run it as root on a system that allows user namespaces");
    ExitCode::from(exit::NO_PERMISSION)
}
