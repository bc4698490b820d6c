//! Many devices at once on one segment: their media, their cages, and what they say.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::core::device::{Mac, Serial};
use crate::simulator::board::{Firmware, Model};
use crate::simulator::cage::{Cage, Purpose, Refused, give};
use crate::simulator::clock::now;
use crate::simulator::device::Brief;
use crate::simulator::line::{Power, Said, in_full};
use crate::simulator::net::{Links, NetError, Socket};

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One for each device.
    pub models: Vec<Model>,
    pub firmware: Firmware,
    /// A bridge, or an interface that macvlans can be put on.
    pub interface: String,
    /// For media and roots; one that the inhabitants of cages may enter.
    pub folder: PathBuf,
    pub medium_bytes: u64,
    /// From power-on to the end of the script.
    pub timeout: Duration,
    /// Between two sendings of a DHCP request of the bootloader.
    pub dhcp_again: Duration,
    pub addresses: Addresses,
    /// Between the power of one device and that of the next: nothing where all share one switch.
    pub power_gap: Duration,
    /// From power to link.
    pub link_delay: Duration,
    /// Each fetches its script and does not run it.
    pub dry: bool,
}

/// Which addresses the devices have.
#[derive(Clone, Copy, Debug)]
pub enum Addresses {
    /// The first one's; the others follow it.
    From(Mac),
    /// At a random place, because two simulators may share a segment, and with the prefix of each model.
    Random,
}

/// One device before it is powered on.
#[derive(Clone, Debug)]
pub struct Device {
    pub model: Model,
    pub mac: Mac,
    pub serial: Serial,
    pub medium: PathBuf,
}

/// Something that a device said, or that it is over.
#[derive(Debug)]
pub struct News {
    pub mac: Mac,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Said(Said),
    /// No cage, or no wire: nothing was run.
    NotStarted(FleetError),
    /// It went away without a last word, or was still at it when the time was over.
    Lost(String),
}

/// Caged devices that wait for their power. Dropping it ends them.
#[derive(Debug)]
pub struct Fleet {
    settings: Settings,
    links: Links,
    socket: Socket,
    devices: Vec<Device>,
}

impl Fleet {
    /// Finds the segment and makes an empty medium for each device.
    pub async fn muster(settings: Settings) -> Result<Self, FleetError> {
        let links = Links::open().map_err(FleetError::Net)?;
        let socket = links.socket(&settings.interface).await.map_err(FleetError::Net)?;
        let macs = addresses(&settings);
        let devices = macs.map(|(model, mac)| prepare(&settings, model, mac)).collect::<Result<_, _>>()?;
        Ok(Self { settings, links, socket, devices })
    }

    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Cages all of them, powers them on together, and passes on what they say, until the last one is over.
    ///
    /// Must run on the thread that outlives it: the gates die with the thread that started them.
    pub async fn run(self, news: mpsc::Sender<News>) {
        let mut caged = Vec::new();
        for device in &self.devices {
            match self.cage(device).await {
                Ok(cage) => caged.push((device.mac, cage)),
                Err(error) => {
                    // Nobody listening means that the fleet is being ended.
                    let _ = news.send(News { mac: device.mac, what: What::NotStarted(error) }).await;
                    break;
                }
            }
        }
        // Each builds its room by itself meanwhile; the last one to be ready holds up all.
        let mut ready = Vec::new();
        for (mac, cage) in caged {
            match Ready::from(mac, cage).await {
                Ok(device) => ready.push(device),
                Err(instead) => drop(news.send(News { mac, what: instead }).await),
            }
        }
        self.power_on(ready, news).await;
    }

    async fn power_on(&self, ready: Vec<Ready>, news: mpsc::Sender<News>) {
        let switched = now() + SWITCH;
        let mut lives = JoinSet::new();
        for (number, mut device) in (0_u32..).zip(ready) {
            let gap = self.settings.power_gap.saturating_mul(number);
            match device.tell(&Power { at: switched + gap }).await {
                Ok(()) => {
                    let end = Instant::now() + SWITCH + gap + self.settings.timeout;
                    lives.spawn(listen(device, end, news.clone()));
                }
                Err(error) => {
                    drop(news.send(News { mac: device.mac, what: What::Lost(in_full(&error)) }).await);
                }
            }
        }
        while lives.join_next().await.is_some() {}
    }

    async fn cage(&self, device: &Device) -> Result<Cage, FleetError> {
        let mut cage = Cage::open(Purpose::Device).map_err(FleetError::Cage)?;
        self.links.plug_in(self.socket, cage.pid(), device.mac).await.map_err(FleetError::Net)?;
        let brief = Brief {
            mac: device.mac,
            serial: device.serial,
            model: device.model,
            firmware: self.settings.firmware,
            medium: device.medium.clone(),
            medium_bytes: self.settings.medium_bytes,
            root: root_of(&self.settings.folder, device.mac),
            dhcp_again_ms: millis(self.settings.dhcp_again),
            link_delay_ms: millis(self.settings.link_delay),
            dry: self.settings.dry,
            rehearsal: None,
        };
        cage.admit(None, &brief).map_err(|error| FleetError::Folder("tell a device its name", error))?;
        Ok(cage)
    }
}

/// A device that stands in its cage and has no power yet.
struct Ready {
    mac: Mac,
    cage: Cage,
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// To be kept: a device whose line ends is over.
    line: OwnedWriteHalf,
}

impl Ready {
    /// Waits until it says so; otherwise what has come in the place of that.
    async fn from(mac: Mac, mut cage: Cage) -> Result<Self, What> {
        let lost = |error: io::Error| What::Lost(in_full(&error));
        let stream = cage.take_line().ok_or_else(|| lost(io::ErrorKind::NotConnected.into()))?.into_stream();
        stream.set_nonblocking(true).map_err(lost)?;
        let (read, line) = UnixStream::from_std(stream).map_err(lost)?.into_split();
        let mut ready = Self { mac, cage, lines: BufReader::new(read).lines(), line };
        match ready.hear(Instant::now() + SETTLING).await.map_err(lost)? {
            Some(Said::Caged) => Ok(ready),
            Some(said) => Err(What::Said(said)),
            None => Err(What::Lost(ready.gone())),
        }
    }

    async fn tell(&mut self, what: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(what).map_err(io::Error::other)?;
        self.line.write_all(format!("{text}\n").as_bytes()).await
    }

    /// The next word; nothing when the other end is gone.
    async fn hear(&mut self, end: Instant) -> io::Result<Option<Said>> {
        let Ok(line) = timeout_at(end, self.lines.next_line()).await else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no end within the time limit"));
        };
        line?.map(|line| serde_json::from_str(&line).map_err(io::Error::other)).transpose()
    }

    fn gone(&mut self) -> String {
        match self.cage.ended() {
            Ok(Some(status)) => format!("its process ended with {status}"),
            _ => "it went away without a word".to_owned(),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn addresses(settings: &Settings) -> impl Iterator<Item = (Model, Mac)> {
    let (first, prefixed) = match settings.addresses {
        Addresses::From(first) => (first, false),
        Addresses::Random => (some_mac(), true),
    };
    (0..).zip(&settings.models).map(move |(number, model)| {
        let mac = follow(first, number);
        let [_, _, _, d, e, f] = mac.bytes();
        let [a, b, c] = model.prefix();
        (*model, if prefixed { Mac::new([a, b, c, d, e, f]) } else { mac })
    })
}

fn prepare(settings: &Settings, model: Model, mac: Mac) -> Result<Device, FleetError> {
    let medium = settings.folder.join(format!("{mac}.medium"));
    let make = || -> io::Result<()> {
        // A new file, never one that is there: a path that leads to a device is refused by the kernel here.
        std::fs::File::create_new(&medium)?.set_len(settings.medium_bytes)?;
        give(&medium)?;
        let root = root_of(&settings.folder, mac);
        std::fs::create_dir(&root)?;
        give(&root)
    };
    make().map_err(|error| FleetError::Folder("make a medium", error))?;
    Ok(Device { model, mac, serial: model.serial(mac), medium })
}

fn root_of(folder: &Path, mac: Mac) -> PathBuf {
    folder.join(format!("{mac}.root"))
}

/// Reads what one device says until it is over.
async fn listen(mut device: Ready, end: Instant, news: mpsc::Sender<News>) {
    let lost = match follow_up(&mut device, end, &news).await {
        Ok(Some(())) => return,
        Ok(None) => device.gone(),
        Err(error) => in_full(&error),
    };
    device.cage.signal(Signal::SIGKILL);
    let _ = news.send(News { mac: device.mac, what: What::Lost(lost) }).await;
}

/// Something if it had its last word.
async fn follow_up(device: &mut Ready, end: Instant, news: &mpsc::Sender<News>) -> io::Result<Option<()>> {
    while let Some(said) = device.hear(end).await? {
        let last =
            matches!(said, Said::Refused { .. } | Said::Ended { .. } | Said::Unplugged { .. } | Said::Failed { .. });
        // Nobody listening means that the fleet is being ended.
        if news.send(News { mac: device.mac, what: What::Said(said) }).await.is_err() || last {
            return Ok(Some(()));
        }
    }
    Ok(None)
}

/// The address `number` places further, within the last three bytes.
fn follow(first: Mac, number: u32) -> Mac {
    let [a, b, c, d, e, f] = first.bytes();
    let place = u32::from_be_bytes([0, d, e, f]).wrapping_add(number);
    let [_, d, e, f] = place.to_be_bytes();
    Mac::new([a, b, c, d, e, f])
}

fn some_mac() -> Mac {
    let [.., d, e, f] = *uuid::Uuid::now_v7().as_bytes();
    Mac::new([2, 0, 0, d, e, f])
}

/// How long a device may take to stand in its cage: there may be hundreds at a time.
const SETTLING: Duration = Duration::from_secs(120);
/// From the word to the power: all have heard of it by then.
const SWITCH: Duration = Duration::from_millis(50);

/// A fleet that does not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("no cage for simulated devices")]
    Cage(#[source] Refused),
    #[error("no wire for simulated devices")]
    Net(#[source] NetError),
    #[error("cannot {0}")]
    Folder(&'static str, #[source] io::Error),
}

impl FleetError {
    /// The system does not allow it, as opposed to: it went wrong.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Cage(_) => true,
            Self::Net(error) => error.is_permission(),
            Self::Folder(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(models: Vec<Model>, addresses: Addresses) -> Settings {
        Settings {
            models,
            firmware: Firmware::Current,
            interface: "br0".to_owned(),
            folder: PathBuf::new(),
            medium_bytes: 0,
            timeout: Duration::ZERO,
            dhcp_again: Duration::ZERO,
            addresses,
            power_gap: Duration::ZERO,
            link_delay: Duration::ZERO,
            dry: false,
        }
    }

    #[test]
    fn a_mixed_fleet_has_the_prefix_of_each_model_unless_an_address_is_given() {
        let models = vec![Model::Pi3, Model::Cm5];
        let random: Vec<Mac> = addresses(&settings(models.clone(), Addresses::Random)).map(|(_, mac)| mac).collect();
        assert!(random[0].to_string().starts_with("ba27eb") && random[1].to_string().starts_with("2ecf67"));
        let first = Addresses::From("020000100000".parse().unwrap());
        let given: Vec<String> = addresses(&settings(models, first)).map(|(_, mac)| mac.to_string()).collect();
        assert_eq!(given, ["020000100000", "020000100001"]);
    }

    #[test]
    fn addresses_follow_each_other_within_the_last_three_bytes() {
        let first: Mac = "e65f0100fffe".parse().unwrap();
        assert_eq!(follow(first, 0), first);
        assert_eq!(follow(first, 3).to_string(), "e65f01010001");
        assert_eq!(follow("e65f01ffffff".parse().unwrap(), 1).to_string(), "e65f01000000");
    }
}
