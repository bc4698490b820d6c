//! `bootline simulate`: simulated devices against a station that runs elsewhere on the segment.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cli::exit;
use crate::cli::interrupt::interrupted;
use crate::cli::size::Size;
use crate::cli::tally::{End, Life, Tally};
use crate::cli::tools;
use crate::core::device::Mac;
use crate::simulator::cage::Scratch;
use crate::simulator::fleet::{Fleet, Settings, some_mac};
use crate::simulator::line::in_full;

/// Simulated devices against a station that runs elsewhere on the segment.
///
/// Each device speaks real DHCP, TFTP and HTTP through a link of its own and runs the served script in a cage of
/// namespaces, on a plain file as its eMMC. Nothing of this host can be written. Needs root, or to be root in a user
/// namespace that owns the interface. On a bridge each device gets a port; on another interface a macvlan, which does
/// not reach this host's own address there.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  bootline simulate --devices 20 --interface eth1")]
pub struct Args {
    /// How many devices
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub devices: u16,
    /// The interface of the station's segment: a bridge, or one that macvlans can be put on
    #[arg(long)]
    pub interface: String,
    /// Size of each device's medium
    #[arg(long, default_value = "64MiB")]
    pub medium_size: Size,
    /// Seconds that a device may take from power-on to the end of its script
    #[arg(long, default_value_t = 600)]
    pub timeout: u64,
    /// Address of the first device, to be the same devices again [default: a random one]
    #[arg(long)]
    pub first: Option<Mac>,
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
    match begin(args) {
        Ok(code) => code,
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn begin(args: &Args) -> Result<ExitCode> {
    let scratch = Scratch::new("simulate").context("cannot make a temporary folder")?;
    // One thread: the devices die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(simulate(args, &scratch));
    // The devices before their folder.
    drop(runtime);
    code
}

async fn simulate(args: &Args, scratch: &Scratch) -> Result<ExitCode> {
    let begun = Instant::now();
    let settings = Settings {
        count: args.devices,
        interface: args.interface.clone(),
        folder: scratch.path().to_owned(),
        medium_bytes: args.medium_size.0,
        timeout: Duration::from_secs(args.timeout),
        dhcp_again: Duration::from_secs(4),
        first: args.first.unwrap_or_else(some_mac),
    };
    let fleet = match Fleet::muster(settings).await {
        Ok(fleet) => fleet,
        Err(error) if error.is_permission() => return Ok(forbidden(&in_full(&error))),
        Err(error) => return Err(error.into()),
    };
    let mut tally = Tally::default();
    tokio::select! {
        () = follow(fleet, &mut tally) => {}
        signal = interrupted() => return Ok(signal?),
    }
    if let Some(why) = tally.refusal() {
        return Ok(forbidden(why));
    }
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        println!("{}", summary(&tally, args.devices, seconds));
    } else {
        print_table(&tally, args.devices, seconds);
    }
    let all = tally.passed() == usize::from(args.devices);
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

type Measure = fn(&Life) -> Option<u64>;

/// What is measured, each from the first DISCOVER of a device.
const MEASURES: [(&str, &str, Measure); 4] = [
    ("offer", "DISCOVER to address", |life| life.offered_ms),
    ("boot_files", "DISCOVER to last boot file", |life| life.booted_ms),
    ("script", "DISCOVER to script", |life| life.script_ms),
    ("end", "DISCOVER to end of script", |life| match life.end {
        Some(End::Passed { after_ms }) => Some(after_ms),
        _ => None,
    }),
];

fn summary(tally: &Tally, devices: u16, seconds: f64) -> Value {
    let latency: serde_json::Map<String, Value> = MEASURES
        .iter()
        .map(|(key, _, what)| {
            (format!("{key}_ms"), json!({"p50": tally.percentile(*what, 50), "p99": tally.percentile(*what, 99)}))
        })
        .collect();
    let failures: Vec<Value> = tally
        .lives()
        .filter_map(|(mac, life)| match &life.end {
            Some(End::Failed { at, detail }) => Some(json!({"mac": mac, "at": at, "detail": detail})),
            _ => None,
        })
        .collect();
    let passed = tally.passed();
    json!({
        "devices": devices, "passed": passed, "failed": usize::from(devices) - passed,
        "seconds": (seconds * 1000.0).round() / 1000.0, "latency": latency, "failures": failures,
    })
}

fn print_table(tally: &Tally, devices: u16, seconds: f64) {
    println!("{:<14}{:>10}{:>12}{:>10}  result", "device", "address", "boot files", "script");
    for (mac, life) in tally.lives() {
        let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let (offer, booted, script) = (ms(life.offered_ms), ms(life.booted_ms), ms(life.script_ms));
        println!("{:<14}{offer:>10}{booted:>12}{script:>10}  {}", mac.to_string(), life.verdict());
    }
    println!("\n{:<28}{:>10}{:>10}", "", "p50", "p99");
    for (_, words, what) in MEASURES {
        let ms = |percent| tally.percentile(what, percent).map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        println!("{words:<28}{:>10}{:>10}", ms(50), ms(99));
    }
    println!("\n{} of {devices} devices passed in {seconds:.1} s", tally.passed());
}

fn forbidden(why: &str) -> ExitCode {
    eprintln!("bootline: {why}; run it as root on a system that allows user namespaces");
    ExitCode::from(exit::NO_PERMISSION)
}
