//! The demo's way from an empty folder to a closing table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::cli::demo::Brief;
use crate::cli::demo::bus::{Bus, Heard, REPLY_WITHIN};
use crate::cli::demo::image::{self, DemoImage};
use crate::cli::demo::screen::Screen;
use crate::cli::demo::show::Show;
use crate::cli::demo::station::{BRIDGE, LOOK_AGAIN, Station};
use crate::core::device::Mac;
use crate::simulator::board::{Firmware, Model};
use crate::simulator::fleet::{Addresses, Device, Fleet, Settings};
use crate::simulator::net::Links;

/// All of it; the exit code says whether every device is right.
pub async fn travel(brief: Brief) -> Result<ExitCode> {
    let begun = Instant::now();
    let limit = Duration::from_secs(brief.args.timeout);
    let mut show = Show::new(Screen::new(brief.args.json));
    make_network().await?;
    let mut station = Station::start(&brief.folder)?;
    let media = match timeout(limit, provision(&brief, &mut station, &mut show)).await {
        Ok(Ok(media)) => media,
        Ok(Err(error)) => {
            show.screen.close();
            return Err(error);
        }
        Err(_) => {
            show.screen.close();
            bail!("not done within {} s; the agent's last words:\n{}", limit.as_secs(), station.last_words());
        }
    };
    show.screen.close();
    station.stop().await?;
    let seconds = begun.elapsed().as_secs_f64();
    let provisioned = show.provisioned(&media);
    let table = show.table(&media);
    let closing = format!(
        "{provisioned} of {} devices are provisioned; {} events came from the broker; {seconds:.1} s",
        media.len(),
        show.events
    );
    if brief.args.json {
        eprintln!("{table}\n{closing}");
        println!("{}", show.summary(&media, seconds));
    } else {
        println!("{table}\n{closing}");
    }
    Ok(if provisioned == media.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn make_network() -> Result<()> {
    let links = Links::open()?;
    links.set_up("lo").await?;
    links.add_bridge(BRIDGE, BRIDGE_ADDRESS).await?;
    Ok(())
}

/// From the agent's first breath to the last device's last word; then what of the image is on each medium.
async fn provision(brief: &Brief, station: &mut Station, show: &mut Show) -> Result<Vec<(Mac, bool)>> {
    let mut bus = join_bus(station).await?;
    station.until_ready().await?;
    show.screen.line("the agent is ready; its broker is heard");
    let image = make_image(&brief.folder, brief.args.image_size.0).await?;
    station.upload(&image).await?;
    show.screen
        .line(&format!("image of {} bytes ({} packed) is uploaded", brief.args.image_size.0, image.packed_bytes));
    let created = ask(&mut bus, show, "project.create", json!({"name": "Demo", "image": image.packed_sha256})).await?;
    let project = project_of(&created)?;
    ask(&mut bus, show, "project.activate", json!({"project": project})).await?;
    show.screen.line("the project is created and activated over MQTT; the devices are powered on");
    let fleet = Fleet::muster(settings(brief)).await?;
    let devices = fleet.devices().to_vec();
    show.screen.expect(devices.iter().map(|device| device.mac));
    follow(fleet, &devices, &mut bus, (station, show)).await?;
    compare(devices, image.raw).await
}

/// The broker is there before the agent is ready.
async fn join_bus(station: &mut Station) -> Result<Bus> {
    loop {
        station.still_there()?;
        if let Ok(bus) = Bus::join().await {
            return Ok(bus);
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn make_image(folder: &Path, bytes: u64) -> Result<DemoImage> {
    let folder = folder.to_owned();
    spawn_blocking(move || image::make(&folder, bytes)).await?.context("cannot make the image")
}

/// Sends a request and waits for its reply; what else comes meanwhile is shown.
async fn ask(bus: &mut Bus, show: &mut Show, name: &str, params: Value) -> Result<Value> {
    let wanted = bus.ask(name, params).await?;
    let reply =
        timeout(REPLY_WITHIN, reply(bus, show, &wanted)).await.with_context(|| format!("no reply to {name}"))??;
    if reply["status"] != "succeeded" {
        bail!("the station says to {name}: {}", reply["error"]);
    }
    Ok(reply)
}

async fn reply(bus: &mut Bus, show: &mut Show, wanted: &Bytes) -> Result<Value> {
    loop {
        match bus.next().await? {
            Heard::Reply { correlation: Some(correlation), body } if correlation == *wanted => return Ok(body),
            heard => take(show, &heard),
        }
    }
}

fn take(show: &mut Show, heard: &Heard) {
    match heard {
        Heard::Event(event) => show.event(event),
        Heard::Telemetry(telemetry) => show.telemetry(telemetry),
        Heard::Reply { .. } | Heard::Other | Heard::Lost(_) => {}
    }
}

/// The id that the station gave the project.
fn project_of(reply: &Value) -> Result<String> {
    let result = &reply["result"];
    let id = result["project"]["id"].as_str().or_else(|| result["id"].as_str()).or_else(|| result["project"].as_str());
    id.map(str::to_owned).with_context(|| format!("no project in the reply {reply}"))
}

fn settings(brief: &Brief) -> Settings {
    Settings {
        models: [Model::Cm4, Model::Cm5].into_iter().cycle().take(usize::from(brief.args.devices)).collect(),
        firmware: Firmware::Current,
        interface: BRIDGE.to_owned(),
        folder: brief.folder.clone(),
        medium_bytes: (brief.args.image_size.0 * 2).max(SMALLEST_MEDIUM),
        timeout: Duration::from_secs(brief.args.timeout),
        dhcp_again: Duration::from_secs(4),
        addresses: Addresses::Random,
        power_gap: Duration::ZERO,
        link_delay: Duration::ZERO,
        dry: false,
    }
}

/// Until every device is over and its last event has come from the broker.
async fn follow(
    fleet: Fleet,
    devices: &[Device],
    bus: &mut Bus,
    (station, show): (&mut Station, &mut Show),
) -> Result<()> {
    // A slow screen slows the telling down, not the devices.
    let (news, mut told) = mpsc::channel(64);
    let mut run = Box::pin(fleet.run(news));
    let mut running = true;
    let mut patience = Instant::now();
    loop {
        if devices.iter().all(|device| show.is_through(device.mac)) {
            return Ok(());
        }
        if !running && patience.elapsed() > LAST_EVENT {
            // The table says who has no event.
            return Ok(());
        }
        tokio::select! {
            () = &mut run, if running => {
                running = false;
                patience = Instant::now();
            }
            Some(news) = told.recv() => show.news(news),
            heard = bus.next() => take(show, &heard?),
            () = sleep(Duration::from_millis(500)) => station.still_there()?,
        }
    }
}

async fn compare(devices: Vec<Device>, raw: PathBuf) -> Result<Vec<(Mac, bool)>> {
    let compare = move || {
        devices
            .into_iter()
            .map(|device| Ok((device.mac, image::holds(&device.medium, &raw)?)))
            .collect::<std::io::Result<Vec<_>>>()
    };
    spawn_blocking(compare).await?.context("cannot compare media with the image")
}

/// What a CM4 with the smallest eMMC would laugh at.
const SMALLEST_MEDIUM: u64 = 64 * 1024 * 1024;
const BRIDGE_ADDRESS: Mac = Mac::new([0x02, 0, 0, 0, 0x05, 0x01]);
/// How long the event of a device that is over may be on its way.
const LAST_EVENT: Duration = Duration::from_secs(10);
