//! The agent: binds everything, starts it, waits for the first end, stops in order. It knows everyone.

mod backup;
pub mod check;
mod files;
mod journal_log;
pub mod label_test;
mod lock;
mod restore;
mod service;
mod sweep;
pub mod switch_test;
mod tar;
pub mod tokens;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::config::Config;
use crate::core::observation::{Input, Observation};
use crate::dhcp::Dhcp;
use crate::dhcp::interface::{Claim, Interface};
use crate::firmware::Firmwares;
use crate::http::auth::Gate;
use crate::http::local::Door;
use crate::http::{self, Listener};
use crate::images::Images;
use crate::labels::Labels;
use crate::ledger::{Clock, Keeper, Ledger, Retention};
use crate::metrics::Metrics;
use crate::netconsole::Netconsole;
use crate::switches::Switches;
use crate::tftp::{self, Tftp};

pub use crate::app::backup::{Images as BackedImages, Manifest, make as make_backup};
pub use crate::app::restore::{Existing, Restored, restore as restore_backup};

/// How long those who talk to devices and operators may take to stop.
const FRONT: Duration = Duration::from_secs(8);
/// How long the buses may take to send what is left.
const BACK: Duration = Duration::from_secs(8);

/// Every socket is bound; nothing is served yet.
pub struct Agent {
    interface: Interface,
    claim: Claim,
    ledger: Ledger,
    writer: JoinHandle<()>,
    images: Images,
    firmware: Firmwares,
    dhcp: Option<Dhcp>,
    tftp: Tftp,
    netconsole: Option<Netconsole>,
    switches: Switches,
    labels: Labels,
    devices: Listener,
    /// Nothing where devices and operators share one.
    operators: Option<Listener>,
    door: Option<Door>,
    gate: Gate,
    bus: Bus,
    metrics: Metrics,
    keeper: Keeper,
    server: SocketAddr,
    _lock: lock::Lock,
}

/// Where the agent listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub tftp: SocketAddr,
    pub devices: SocketAddr,
    pub operators: SocketAddr,
    /// The embedded broker, if there is one.
    pub mqtt: Option<SocketAddr>,
}

impl Agent {
    pub async fn bind(config: Config) -> Result<Self> {
        files::lift_limit();
        let lock = lock::Lock::take(&config.data)?;
        if config.data.join(restore::WORK).exists() {
            bail!("a restore of {} was begun and has not ended; run bootline restore again", config.data.display());
        }
        let interface = Interface::open(&config.interface)?;
        let claim = interface.claim(config.server, config.prefix_len).await?;
        let database = config.data.join("bootline.db");
        let (ledger, writer) = Ledger::open(&database, &config.root, config.core.clone(), Clock::default())?;
        let ledger = ledger.with_bus_role(config.bus_role);
        // Images leave so much to the ledger; the alarm comes before they take it.
        let retention = Retention {
            keep: config.events.keep,
            cap_bytes: config.events.cap_bytes,
            low_bytes: config.images.reserve_bytes.saturating_mul(2),
            data: config.data.clone(),
        };
        let keeper = Keeper::new(ledger.clone(), retention);
        let images = Images::open(&config.data, config.images, ledger.clone())?;
        sweep::missing_files(&ledger, &images).await?;
        let firmware = Firmwares::open(&config.data, ledger.clone())?;
        firmware.check().await?;
        let dhcp = match config.dhcp {
            Some(settings) => Some(Dhcp::bind(settings, ledger.clone())?),
            None => None,
        };
        let mtu = interface.mtu().await?;
        let tftp = Tftp::bind(tftp::Settings { mtu, ..config.tftp }, ledger.clone())?;
        let netconsole = config.netconsole.map(|settings| Netconsole::bind(settings, ledger.clone())).transpose()?;
        let switches = Switches::new(config.switches, ledger.clone());
        let metrics = Metrics::new(ledger.clone(), config.data.clone(), config.labels.names());
        let labels = Labels::new(config.labels, ledger.clone());
        let (devices, operators) = listeners(&config.http, &images).await?;
        let door = door(&config.data);
        let gate = Gate::new(ledger.clone(), config.http.access.clone());
        let bus = Bus::bind(config.bus, ledger.clone()).await?;
        // The bound one: its port may have been left to the system.
        let server = SocketAddr::new(config.server.into(), devices.address()?.port());
        Ok(Self {
            interface,
            claim,
            ledger,
            writer,
            images,
            firmware,
            dhcp,
            tftp,
            netconsole,
            switches,
            labels,
            devices,
            operators,
            door,
            gate,
            bus,
            metrics,
            keeper,
            server,
            _lock: lock,
        })
    }

    pub fn addresses(&self) -> Result<Addresses> {
        Ok(Addresses {
            tftp: self.tftp.address()?,
            devices: self.devices.address()?,
            operators: self.operators.as_ref().unwrap_or(&self.devices).address()?,
            mqtt: self.bus.broker(),
        })
    }

    /// Serves until `stop` is cancelled or a part of the agent ends by itself.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let ledger = self.ledger.clone();
        let version = ledger.identity().version.clone();
        ledger.submit(Input::Observed(Observation::StationStarted { version })).await?;
        ledger.submit(Input::Observed(Observation::SinksNamed { names: self.bus.sinks() })).await?;
        let Running { mut front, mut back, writer, interface, claim, _lock } = self.start();
        tracing::info!("ready");
        let supervised = service::Supervised::ready(ledger.clone());

        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = front.first() => ended,
            ended = back.first() => ended,
        };
        let reason = match &ended {
            Ok(()) => "told to stop".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        tracing::info!(reason, "stopping");
        supervised.stopping();
        let front = front.drain(FRONT).await;
        // A ledger that cannot write any more cannot record its end either.
        let recorded = ledger.submit(Input::Observed(Observation::StationStopping { reason })).await;
        let back = back.drain(BACK).await;
        drop(ledger);
        let written = lay_down(writer).await;
        let given_back = interface.give_back(claim).await;
        interface.close().await;
        ended?;
        front?;
        back?;
        recorded.context("cannot record the end of the station")?;
        written?;
        given_back?;
        Ok(())
    }

    /// The front talks to devices and operators; the back carries the news out, and ends after it.
    fn start(self) -> Running {
        let Self { ledger, images, firmware, metrics, .. } = self;
        let mut back = Tasks::default();
        let (bus, counting) = (self.bus, metrics.clone());
        back.spawn("bus", move |stop| async move { Ok(bus.run(stop).await?) });
        let keeper = self.keeper;
        back.spawn("journal", move |stop| async move { Ok(keeper.run(stop).await?) });
        back.spawn("metrics", move |stop| async move { Ok(counting.run(stop).await?) });
        back.spawn("log", {
            let ledger = ledger.clone();
            move |stop| async move { journal_log::run(ledger, stop).await }
        });

        let mut front = Tasks::default();
        if let Some(dhcp) = self.dhcp {
            front.spawn("dhcp", move |stop| async move { Ok(dhcp.run(stop).await?) });
        }
        if let Some(netconsole) = self.netconsole {
            front.spawn("netconsole", move |stop| async move { Ok(netconsole.run(stop).await?) });
        }
        let switches = self.switches;
        front.spawn("switches", move |stop| async move { Ok(switches.run(stop).await?) });
        let labels = self.labels;
        front.spawn("labels", move |stop| async move { Ok(labels.run(stop).await?) });
        let (files, tftp, library) = (self.tftp.files(), self.tftp, images.clone());
        front.spawn("tftp", move |stop| async move { Ok(tftp.run(stop).await?) });
        front.spawn("images", move |stop| async move { Ok(library.run(stop).await?) });
        let eeproms = firmware.clone();
        front.spawn("firmware", move |stop| async move { Ok(eeproms.run(stop).await?) });
        front.spawn("clock", {
            let ledger = ledger.clone();
            move |stop| async move { tick(ledger, stop).await }
        });
        let shelves = http::device::Shelves { images: images.clone(), firmware: firmware.clone(), files };
        let side = http::device::Device::new(ledger.clone(), shelves, self.server);
        let device_side = side.clone();
        front.spawn("image flow", move |stop| async move {
            side.run(stop).await;
            Ok(())
        });
        let gate = self.gate.clone();
        let operator = http::operator::Operator { ledger, images, firmware, metrics: metrics.clone(), gate: self.gate };
        let router = http::operator::router(operator);
        if let Some(door) = self.door {
            let router = router.clone();
            front.spawn("http data folder", move |stop| async move { Ok(door.run(router, stop).await?) });
        }
        let calls = http::count::counted(http::device::router(device_side), metrics.clone(), "devices");
        let calls = match self.operators {
            Some(operators) => {
                front.spawn("http operators", move |stop| async move { Ok(operators.run(router, stop).await?) });
                calls
            }
            None => calls.merge(router),
        };
        let devices = self.devices;
        front.spawn("http devices", move |stop| async move { Ok(devices.run(calls, stop).await?) });
        front.spawn("access", move |stop| async move {
            gate.run(stop).await;
            Ok(())
        });
        Running { front, back, writer: self.writer, interface: self.interface, claim: self.claim, _lock: self._lock }
    }
}

/// One for devices and one for operators, or one for both.
async fn listeners(settings: &http::Settings, images: &Images) -> Result<(Listener, Option<Listener>)> {
    let certificate = settings.tls.as_ref().map(http::tls::Certificate::open).transpose()?;
    let operators = || Listener::bind("operators", settings.operators);
    Ok(match settings.listeners {
        http::Listeners::One => (operators().await?.sending(images.mappings()), None),
        http::Listeners::Two => {
            let devices = Listener::bind("devices", settings.devices.into()).await?.sending(images.mappings());
            let operators = operators().await?.sending(images.mappings()).secured(certificate);
            (devices, Some(operators))
        }
    })
}

/// Without it `bootline token` works only while the agent does not run; that is no reason not to run.
fn door(data: &Path) -> Option<Door> {
    let bound = Door::bind(data);
    bound.inspect_err(|error| tracing::warn!(%error, "no socket in the data folder for bootline token")).ok()
}

/// An agent that serves.
struct Running {
    front: Tasks,
    back: Tasks,
    writer: JoinHandle<()>,
    interface: Interface,
    claim: Claim,
    _lock: lock::Lock,
}

/// The writer ends when the last handle of the ledger is gone. A task that was cut off may hold one a little longer;
/// what is written is safe either way.
async fn lay_down(writer: JoinHandle<()>) -> Result<()> {
    let limit = Instant::now() + BACK;
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while !writer.is_finished() && Instant::now() < limit {
        looks.tick().await;
    }
    if !writer.is_finished() {
        tracing::warn!("the ledger's thread is left behind");
        return Ok(());
    }
    writer.join().map_err(|_| anyhow!("the ledger's thread ended in a panic"))
}

/// Once a second the core learns what time it is.
async fn tick(ledger: Ledger, stop: CancellationToken) -> Result<()> {
    let mut seconds = tokio::time::interval_at(Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = seconds.tick() => {
                // A ledger that cannot write is told in its own log and in /readyz; the next second tries again.
                if let Err(error) = ledger.submit(Input::Tick).await {
                    tracing::debug!(%error, "a tick came to nothing");
                }
            }
        }
    }
}

/// Named tasks that somebody waits for, and the word that ends them.
#[derive(Default)]
struct Tasks {
    set: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
}

impl Tasks {
    fn spawn<F, T>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> T,
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let task = task(self.stop.clone());
        self.set.spawn(async move { (name, task.await) });
    }

    /// The first to end, which nobody asked for.
    async fn first(&mut self) -> Result<()> {
        match self.set.join_next().await {
            Some(Ok((name, Ok(())))) => bail!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => Err(error.context(format!("{name} failed"))),
            Some(Err(error)) => Err(error.into()),
            None => std::future::pending().await,
        }
    }

    /// Tells all of them to stop and waits for them, for a bounded time.
    async fn drain(mut self, limit: Duration) -> Result<()> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                let (name, result) = ended?;
                result.with_context(|| format!("{name} failed while it stopped"))?;
            }
            Ok(())
        };
        tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
            tracing::warn!(seconds = limit.as_secs(), "some parts did not stop in time and are cut off");
            Ok(())
        })
    }
}

/// Makes the folder of the data, readable by its owner alone: it holds tokens.
fn make_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data folder {}", path.display()))
}
