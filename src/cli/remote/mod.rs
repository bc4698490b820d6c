//! What operators do on the command line, over the same API as everyone else: projects, images, firmware, sessions,
//! devices, events, alarms, places on the line, the station itself.

mod body;
mod client;
mod events;
mod sessions;
mod shelf;
mod show;
mod station;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::cli::exit;
use crate::cli::remote::client::{Client, Trouble};
use crate::cli::remote::show::Column;

pub use crate::cli::remote::events::Args as Events;
pub use crate::cli::remote::sessions::{DeviceArgs as Devices, SessionArgs as Sessions};
pub use crate::cli::remote::shelf::{FirmwareVerb, ImageVerb};
pub use crate::cli::remote::station::{Ready, Slots, StationVerb};

/// Which station, and how it answers.
#[derive(clap::Args, Clone, Debug)]
pub struct Station {
    /// Where its operator side listens
    #[arg(long, env = "BOOTLINE_URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// The file that holds the token; else `BOOTLINE_TOKEN`. Never an argument: those are seen by everyone
    #[arg(long, env = "BOOTLINE_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Whom to trust besides the system: a certificate as PEM, such as the one that the station has made for itself
    #[arg(long, env = "BOOTLINE_CA", global = true)]
    ca: Option<PathBuf>,
    /// What the station answers, as it is
    #[arg(long, global = true)]
    json: bool,
}

/// A verb with its station.
#[derive(clap::Args, Debug)]
pub struct At<V: clap::Subcommand> {
    #[command(subcommand)]
    pub verb: V,
    #[command(flatten)]
    pub station: Station,
}

/// Recipes: which image goes onto devices
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Example:\n  bootline project create 'Gateway 3' --image gateway.img.xz --active")]
pub enum ProjectVerb {
    /// All projects
    List,
    /// One project
    Show { project: String },
    /// Another project
    Create {
        /// Free text; its letters and digits become the id
        name: String,
        /// SHA-256, or a name that only one image has
        #[arg(long)]
        image: String,
        /// Where it is written to
        #[arg(long)]
        storage: Option<String>,
        /// Devices get it at once
        #[arg(long)]
        active: bool,
    },
    /// Devices get it
    Activate { project: String },
    /// No device gets it
    Deactivate { project: String },
    /// It goes; its sessions stay
    Delete { project: String },
}

pub fn project(at: At<ProjectVerb>) -> ExitCode {
    run(&at.station.clone(), async move |client| {
        match at.verb {
            ProjectVerb::List => {
                let answer = client.get("/projects").await?;
                show::list(client.json, &answer, "projects", &PROJECTS);
            }
            ProjectVerb::Show { project } => shown(client, client.get(&one("projects", &project)).await?),
            ProjectVerb::Create { name, image, storage, active } => {
                let mut params = Map::from_iter([("name".to_owned(), json!(name)), ("image".to_owned(), json!(image))]);
                params.extend(storage.map(|storage| ("storage".to_owned(), json!(storage))));
                if active {
                    params.insert("active".to_owned(), json!(true));
                }
                shown(client, client.post("/projects", &Value::Object(params)).await?);
            }
            ProjectVerb::Activate { project } => {
                shown(client, client.post(&format!("{}/activate", one("projects", &project)), &json!({})).await?);
            }
            ProjectVerb::Deactivate { project } => {
                shown(client, client.post(&format!("{}/deactivate", one("projects", &project)), &json!({})).await?);
            }
            ProjectVerb::Delete { project } => shown(client, client.delete(&one("projects", &project)).await?),
        }
        Ok(())
    })
}

const PROJECTS: [Column; 4] = [
    Column { head: "PROJECT", at: "/id" },
    Column { head: "ACTIVE", at: "/active" },
    Column { head: "IMAGE", at: "/image" },
    Column { head: "NAME", at: "/name" },
];

pub fn image(at: At<ImageVerb>) -> ExitCode {
    run(&at.station.clone(), async move |client| shelf::image(client, at.verb).await)
}

pub fn firmware(at: At<FirmwareVerb>) -> ExitCode {
    run(&at.station.clone(), async move |client| shelf::firmware(client, at.verb).await)
}

pub fn sessions(args: Sessions) -> ExitCode {
    run(&args.station.clone(), async move |client| sessions::sessions(client, args).await)
}

pub fn devices(args: Devices) -> ExitCode {
    run(&args.station.clone(), async move |client| sessions::devices(client, args).await)
}

pub fn events(args: Events) -> ExitCode {
    run(&args.station.clone(), async move |client| events::events(client, args).await)
}

pub fn station(at: At<StationVerb>) -> ExitCode {
    run(&at.station.clone(), async move |client| station::station(client, at.verb).await)
}

pub fn slots(args: &Slots) -> ExitCode {
    run(&args.station, station::slots)
}

pub fn ready(args: &Ready) -> ExitCode {
    run(&args.station, station::ready)
}

/// What somebody must act on; the exit code is 1 while there is something
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline alarms || mail -s 'the line needs somebody' hall3 <<<''")]
pub struct Alarms {
    #[command(flatten)]
    station: Station,
}

pub fn alarms(args: &Alarms) -> ExitCode {
    run(&args.station, async |client| {
        let answer = client.get("/alarms").await?;
        show::list(
            client.json,
            &answer,
            "alarms",
            &[Column { head: "ALARM", at: "/code" }, Column { head: "", at: "/detail" }],
        );
        let some = answer["alarms"].as_array().is_some_and(|alarms| !alarms.is_empty());
        if some { Err(Trouble::Found) } else { Ok(()) }
    })
}

/// `/projects/gateway`, with what a path cannot hold written as it must be.
fn one(noun: &str, id: &str) -> String {
    format!("/{noun}/{}", escaped(id))
}

fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn shown(client: &Client, answer: Value) {
    if client.json { show::json(&answer) } else { show::fields(answer) }
}

fn run(station: &Station, work: impl AsyncFnOnce(&Client) -> Result<(), Trouble>) -> ExitCode {
    let done = Client::of(station).and_then(|client| {
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Trouble::Here(format!("cannot start: {error}")))?;
        runtime.block_on(work(&client))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Found) => ExitCode::from(exit::FOUND),
        Err(trouble) => {
            eprintln!("bootline: {trouble}");
            ExitCode::from(trouble.code())
        }
    }
}
