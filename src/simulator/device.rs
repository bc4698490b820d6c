//! One simulated device, as process 1 of its cage: link, bootloader, Linux stage, and a word home after each.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::core::device::{Mac, Serial};
use crate::simulator::board::{Board, Firmware, Model};
use crate::simulator::bootloader::{self, Program, Timing};
use crate::simulator::clock::now;
use crate::simulator::ether::{Ether, Stack};
use crate::simulator::fetch::{Client, Path};
use crate::simulator::lease::{Leased, Personality, acquire};
use crate::simulator::line::{Line, Power, Said, Stage, in_full};
use crate::simulator::linux::{self, Found};
use crate::simulator::net::{Links, NetError};
use crate::simulator::pi3;
use crate::simulator::room::{self, Enclosed, Plan, enclose};
use crate::simulator::walk::Booted;

/// Everything that a device is told about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Brief {
    pub mac: Mac,
    pub serial: Serial,
    pub model: Model,
    #[serde(default)]
    pub firmware: Firmware,
    /// The plain file that is its eMMC, seen from outside.
    pub medium: PathBuf,
    pub medium_bytes: u64,
    /// An empty folder for its root.
    pub root: PathBuf,
    /// Between two sendings of a DHCP request of the bootloader.
    pub dhcp_again_ms: u64,
    /// From power to link.
    #[serde(default)]
    pub link_delay_ms: u64,
    /// Fetch the script and do not run it.
    #[serde(default)]
    pub dry: bool,
    /// Run this script and nothing else, without a network: a look around in the cage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<String>,
}

/// Lives once. The exit code is the script's, 1 if it did not come so far, 77 without a cage.
pub fn live() -> ExitCode {
    let begun = Line::inherited().and_then(|mut line| {
        SigSet::empty().thread_set_mask()?;
        // The gate is in another process namespace: when it dies, so does this one and all that is in it.
        set_pdeathsig(Signal::SIGKILL)?;
        Ok((line.hear::<Brief>()?, line))
    });
    match begun {
        Ok((Some(brief), line)) => boot(&brief, line),
        Ok((None, _)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bootline: a simulated device: {error}");
            ExitCode::FAILURE
        }
    }
}

fn boot(brief: &Brief, mut line: Line) -> ExitCode {
    let room = match settle(brief) {
        Ok(room) => room,
        Err(why) => {
            let _ = line.say(&Said::Refused { why });
            return ExitCode::from(NO_PERMISSION);
        }
    };
    let mut life = Life { brief, room: &room, line, linked: now() };
    match life.run() {
        Ok(exit) => u8::try_from(exit).map_or(ExitCode::FAILURE, ExitCode::from),
        Err((stage, detail)) => {
            let after_ms = life.after_ms();
            life.say(&Said::Failed { after_ms, stage, detail });
            ExitCode::FAILURE
        }
    }
}

fn settle(brief: &Brief) -> Result<Enclosed, String> {
    let room = enclose(&Plan {
        root: &brief.root,
        medium: &brief.medium,
        medium_sectors: brief.medium_bytes / 512,
        hostname: &format!("sim-{}", brief.mac),
        address: &colons(brief.mac),
        cid: &cid(brief.serial),
        csd: CSD,
    })
    .map_err(|leak| in_full(&leak))?;
    room::hang_applets(&room).map_err(|error| in_full(&error))?;
    Ok(room)
}

/// A parent that is gone says so by the end of the line, however it went.
fn die_with(line: &Line) -> io::Result<()> {
    let mut line = line.try_clone()?;
    std::thread::spawn(move || {
        let _ = line.hear::<serde_json::Value>();
        std::process::exit(1);
    });
    Ok(())
}

/// A device that is powered on.
struct Life<'a> {
    brief: &'a Brief,
    room: &'a Enclosed,
    line: Line,
    /// When its link was up, since 1970.
    linked: Duration,
}

type Halt = (Stage, String);

impl Life<'_> {
    fn run(&mut self) -> Result<i32, Halt> {
        if let Some(script) = &self.brief.rehearsal {
            self.say(&Said::Caged);
            halt(Stage::Script, die_with(&self.line))?;
            halt(Stage::Script, linux::bring_script(self.room, script))?;
            return self.run_script();
        }
        let runtime = halt(Stage::Link, tokio::runtime::Builder::new_current_thread().enable_all().build())?;
        let links = halt(Stage::Link, runtime.block_on(link_up()))?;
        self.await_power()?;
        let net = Net { runtime: &runtime, links: &links };
        let cmdline = self.bootloader(net)?;
        let leased = self.linux_address(net)?;
        self.script(&cmdline, &leased)
    }

    /// Stands ready until its power comes, then waits for its link.
    fn await_power(&mut self) -> Result<(), Halt> {
        self.say(&Said::Caged);
        let Some(power) = halt(Stage::Link, self.line.hear::<Power>())? else {
            return Err((Stage::Link, "no power came".to_owned()));
        };
        halt(Stage::Link, die_with(&self.line))?;
        std::thread::sleep(power.at.saturating_sub(now()));
        self.say(&Said::Powered);
        self.linked = power.at + Duration::from_millis(self.brief.link_delay_ms);
        std::thread::sleep(self.linked.saturating_sub(now()));
        Ok(())
    }

    fn bootloader(&mut self, net: Net<'_>) -> Result<String, Halt> {
        let Brief { mac, serial, model, firmware, dhcp_again_ms, .. } = *self.brief;
        let board = Board { model, mac, serial, revision: model.revision() };
        let timing = Timing { request: Duration::from_millis(dhcp_again_ms), ..Timing::default() };
        let by_rom = match model {
            Model::Pi3 => Some(self.boot_rom(&Program::Rom.personality(board, timing))?),
            _ => None,
        };
        let program = Program::last(model, firmware);
        let leased = address(Stage::BootDhcp, &program.personality(board, timing))?;
        net.take(Stage::BootDhcp, &leased)?;
        if by_rom.is_none() {
            self.say(&Said::Offered { after_ms: self.after_ms(), address: leased.address });
        }
        let (dialect, port) = (program.dialect(), program.port());
        let mut client = Client { dialect, server: leased.tftp, port, path: Path::Kernel };
        let mut get = |file: &str, wish| client.fetch(file, wish);
        let booted = halt(Stage::BootFiles, bootloader::download(board, &mut get))?;
        net.drop(Stage::BootFiles, &leased)?;
        let after_ms = self.after_ms();
        let Booted { files, missing, bytes, cut, cmdline } = booted;
        let files = files + u32::from(by_rom.is_some());
        let bytes = bytes + by_rom.unwrap_or(0);
        self.say(&Said::Booted { after_ms, files, missing, bytes, cut });
        Ok(cmdline)
    }

    /// The boot ROM of a Pi 3, which has no kernel to help it; the bytes of what it has downloaded.
    fn boot_rom(&mut self, who: &Personality) -> Result<u64, Halt> {
        let ether = halt(Stage::BootDhcp, Ether::open("eth0", Stack::Rom))?;
        let (leased, server) = halt(Stage::BootDhcp, acquire(&ether, who))?;
        self.say(&Said::Offered { after_ms: self.after_ms(), address: leased.address });
        // A station pushes its OFFER out of the network chip, but not each block.
        ether.let_go();
        let path = Path::Frames { ether: &ether, address: leased.address, server };
        let (dialect, port) = (Program::Rom.dialect(), Program::Rom.port());
        let mut client = Client { dialect, server: leased.tftp, port, path };
        halt(Stage::BootFiles, pi3::rom(&mut |file, wish| client.fetch(file, wish)))
    }

    fn linux_address(&self, net: Net<'_>) -> Result<Leased, Halt> {
        let leased = address(Stage::LinuxDhcp, &linux::personality(self.brief.mac))?;
        net.take(Stage::LinuxDhcp, &leased)?;
        Ok(leased)
    }

    fn script(&mut self, cmdline: &str, leased: &Leased) -> Result<i32, Halt> {
        let no_url = || (Stage::ScriptDownload, format!("no http script in the command line {cmdline:?}"));
        let url = linux::script_url(cmdline, &self.found()).ok_or_else(no_url)?;
        halt(Stage::ScriptDownload, linux::fetch_script(self.room, &url))?;
        self.say(&Said::ScriptFetched { after_ms: self.after_ms() });
        if self.brief.dry {
            halt(Stage::ScriptDownload, linux::look_at_script(self.room))?;
            self.say(&Said::Unplugged { after_ms: self.after_ms() });
            return Ok(0);
        }
        let exit = self.run_script()?;
        if exit == 0 {
            halt(Stage::Script, linux::let_go(self.brief.mac, leased))?;
        }
        Ok(exit)
    }

    fn run_script(&mut self) -> Result<i32, Halt> {
        let ended = halt(Stage::Script, linux::run_script(self.room))?;
        self.say(&Said::Ended { after_ms: self.after_ms(), exit: ended.exit, output: ended.output });
        Ok(ended.exit)
    }

    fn found(&self) -> Found {
        let Brief { serial, mac, model, medium_bytes, .. } = *self.brief;
        Found {
            serial,
            mac,
            model: model.text(),
            storage_sectors: medium_bytes / 512,
            memory_kb: u64::from(model.revision().memory_mb().unwrap_or(1024)) * 1000,
            cid: cid(serial),
            csd: CSD.to_owned(),
        }
    }

    fn after_ms(&self) -> u64 {
        u64::try_from(now().saturating_sub(self.linked).as_millis()).unwrap_or(u64::MAX)
    }

    fn say(&mut self, what: &Said) {
        // A parent that does not listen any more is about to end this process.
        let _ = self.line.say(what);
    }
}

/// The kernel's side of `eth0`.
#[derive(Clone, Copy)]
struct Net<'a> {
    runtime: &'a Runtime,
    links: &'a Links,
}

impl Net<'_> {
    fn take(self, stage: Stage, leased: &Leased) -> Result<(), Halt> {
        halt(stage, self.runtime.block_on(self.links.add_address("eth0", leased.address, leased.prefix)))
    }

    /// The bootloader's network ends with it.
    fn drop(self, stage: Stage, leased: &Leased) -> Result<(), Halt> {
        halt(stage, self.runtime.block_on(self.links.drop_address("eth0", leased.address, leased.prefix)))
    }
}

async fn link_up() -> Result<Links, NetError> {
    let links = Links::open()?;
    links.set_up("lo").await?;
    links.set_up("eth0").await?;
    links.carrier("eth0").await?;
    Ok(links)
}

/// With a socket of its own: one left open fills up with the boot files that pass by, and then hears no OFFER.
fn address(stage: Stage, who: &Personality) -> Result<Leased, Halt> {
    let ether = halt(stage, Ether::open("eth0", Stack::Whole))?;
    halt(stage, acquire(&ether, who)).map(|(leased, _)| leased)
}

fn halt<T, E: std::error::Error>(stage: Stage, result: Result<T, E>) -> Result<T, Halt> {
    result.map_err(|error| (stage, in_full(&error)))
}

fn colons(mac: Mac) -> String {
    mac.dashes().replace('-', ":")
}

/// A card identification as eMMCs of this size have, with the serial in the place of the card's own.
fn cid(serial: Serial) -> String {
    format!("150100424a54443452{:06x}{}c5", 0x0a_0000, serial.low())
}

const CSD: &str = "d02701320f5903fff6dbffef8e40400d";
/// `EX_NOPERM`
const NO_PERMISSION: u8 = 77;
