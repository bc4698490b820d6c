//! Many devices at once on one segment: their media, their cages, and what they say.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::core::device::{Mac, Revision, Serial};
use crate::simulator::cage::{Cage, Purpose, Refused, give};
use crate::simulator::device::Brief;
use crate::simulator::line::{Said, in_full};
use crate::simulator::net::{Links, NetError, Socket};

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    pub count: u16,
    /// A bridge, or an interface that macvlans can be put on.
    pub interface: String,
    /// For media and roots; one that the inhabitants of cages may enter.
    pub folder: PathBuf,
    pub medium_bytes: u64,
    /// From power-on to the end of the script.
    pub timeout: Duration,
    /// Between two sendings of a DHCP request of the bootloader.
    pub dhcp_again: Duration,
    /// The first device's address; the others follow it.
    pub first: Mac,
}

/// One device before it is powered on.
#[derive(Clone, Debug)]
pub struct Device {
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
        let devices = (0..settings.count).map(|number| prepare(&settings, number)).collect::<Result<_, _>>()?;
        Ok(Self { settings, links, socket, devices })
    }

    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Powers all of them on and passes on what they say, until the last one is over.
    ///
    /// Must run on the thread that outlives it: the gates die with the thread that started them.
    pub async fn run(self, news: mpsc::Sender<News>) {
        let mut lives = JoinSet::new();
        let end = Instant::now() + self.settings.timeout;
        for device in &self.devices {
            match self.power_on(device).await {
                Ok(cage) => {
                    lives.spawn(listen(device.mac, cage, end, news.clone()));
                }
                Err(error) => {
                    // Nobody listening means that the fleet is being ended.
                    let _ = news.send(News { mac: device.mac, what: What::NotStarted(error) }).await;
                    break;
                }
            }
        }
        while lives.join_next().await.is_some() {}
    }

    async fn power_on(&self, device: &Device) -> Result<Cage, FleetError> {
        let mut cage = Cage::open(Purpose::Device).map_err(FleetError::Cage)?;
        self.links.plug_in(self.socket, cage.pid(), device.mac).await.map_err(FleetError::Net)?;
        let brief = Brief {
            mac: device.mac,
            serial: device.serial,
            revision: REVISION,
            medium: device.medium.clone(),
            medium_bytes: self.settings.medium_bytes,
            root: root_of(&self.settings.folder, device.mac),
            dhcp_again_ms: u64::try_from(self.settings.dhcp_again.as_millis()).unwrap_or(u64::MAX),
            rehearsal: None,
        };
        cage.admit(None, &brief).map_err(|error| FleetError::Folder("tell a device its name", error))?;
        Ok(cage)
    }
}

fn prepare(settings: &Settings, number: u16) -> Result<Device, FleetError> {
    let mac = follow(settings.first, number);
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
    Ok(Device { mac, serial: serial_of(mac), medium })
}

fn root_of(folder: &Path, mac: Mac) -> PathBuf {
    folder.join(format!("{mac}.root"))
}

/// Reads what one device says until it is over.
async fn listen(mac: Mac, mut cage: Cage, end: Instant, news: mpsc::Sender<News>) {
    let heard = hear(mac, &mut cage, end, &news).await;
    let lost = match heard {
        Ok(Some(())) => return,
        Ok(None) => match cage.ended() {
            Ok(Some(status)) => gone(status),
            _ => "it went away without a word".to_owned(),
        },
        Err(error) => in_full(&error),
    };
    cage.signal(Signal::SIGKILL);
    let _ = news.send(News { mac, what: What::Lost(lost) }).await;
}

/// Something if it had its last word.
async fn hear(mac: Mac, cage: &mut Cage, end: Instant, news: &mpsc::Sender<News>) -> io::Result<Option<()>> {
    let mut lines = lines(cage)?;
    loop {
        let Ok(line) = timeout_at(end, lines.next_line()).await else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no end within the time limit"));
        };
        let Some(line) = line? else {
            return Ok(None);
        };
        let said: Said = serde_json::from_str(&line).map_err(io::Error::other)?;
        let last = matches!(said, Said::Refused { .. } | Said::Ended { .. } | Said::Failed { .. });
        // Nobody listening means that the fleet is being ended.
        if news.send(News { mac, what: What::Said(said) }).await.is_err() || last {
            return Ok(Some(()));
        }
    }
}

fn lines(cage: &mut Cage) -> io::Result<Lines<BufReader<UnixStream>>> {
    let stream = cage.take_line().ok_or(io::ErrorKind::NotConnected)?.into_stream();
    stream.set_nonblocking(true)?;
    Ok(BufReader::new(UnixStream::from_std(stream)?).lines())
}

fn gone(status: ExitStatus) -> String {
    format!("its process ended with {status}")
}

/// The address `number` places further, within the last three bytes.
fn follow(first: Mac, number: u16) -> Mac {
    let [a, b, c, d, e, f] = first.bytes();
    let place = u32::from_be_bytes([0, d, e, f]).wrapping_add(u32::from(number));
    let [_, d, e, f] = place.to_be_bytes();
    Mac::new([a, b, c, d, e, f])
}

/// Locally administered, otherwise like one of Raspberry Pi's, at a random place: two simulators may share a segment.
pub fn some_mac() -> Mac {
    let [.., d, e, f] = *uuid::Uuid::now_v7().as_bytes();
    Mac::new([0xe6, 0x5f, 0x01, d, e, f])
}

/// As the serials of CM4s look; the low word follows the address.
fn serial_of(mac: Mac) -> Serial {
    let [_, _, _, d, e, f] = mac.bytes();
    Serial(0x1000_0000_0000_0000 | u64::from(u32::from_be_bytes([0xb5, d, e, f])))
}

/// CM4 with 4 GB.
const REVISION: Revision = Revision(0xc0_3140);

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

    #[test]
    fn addresses_follow_each_other_within_the_last_three_bytes() {
        let first: Mac = "e65f0100fffe".parse().unwrap();
        assert_eq!(follow(first, 0), first);
        assert_eq!(follow(first, 3).to_string(), "e65f01010001");
        assert_eq!(follow("e65f01ffffff".parse().unwrap(), 1).to_string(), "e65f01000000");
        assert_eq!(serial_of(first).to_string(), "10000000b500fffe");
        assert!(some_mac().is_unicast());
    }
}
