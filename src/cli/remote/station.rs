//! `bootline station`, `bootline slots` and `bootline ready`.

use serde_json::{Value, json};

use crate::cli::remote::client::{Client, Trouble};
use crate::cli::remote::show::{self, Column};
use crate::cli::remote::{Station, shown};

/// The station at a glance, and whether it takes new devices
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Example:\n  bootline station drain --reason 'new firmware for the switch'\n  bootline station resume"
)]
pub enum StationVerb {
    /// What it has, what is wrong, how far the buses are
    Info,
    /// No new sessions begin; those that run go on
    Drain {
        /// For people
        #[arg(long)]
        reason: Option<String>,
    },
    /// New sessions begin again
    Resume,
}

pub async fn station(client: &Client, verb: StationVerb) -> Result<(), Trouble> {
    match verb {
        StationVerb::Info => shown(client, client.get("/station").await?),
        StationVerb::Drain { reason } => {
            let params = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
            standing(client, &client.post("/station/drain", &params).await?);
        }
        StationVerb::Resume => standing(client, &client.post("/station/resume", &json!({})).await?),
    }
    Ok(())
}

/// Whether new sessions begin.
fn standing(client: &Client, answer: &Value) {
    if client.json {
        return show::json(answer);
    }
    let drained = &answer["drained"];
    let text = |name: &str| drained[name].as_str().map(show::printable);
    match (text("by"), text("at")) {
        (Some(by), Some(at)) => {
            let reason = text("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
            let open = answer["open_sessions"].as_u64().unwrap_or_default();
            show::line(&format!("no new sessions begin, by {by} since {at}{reason}; {open} still run"));
        }
        _ => show::line("new sessions begin"),
    }
}

/// Places on the line, and how it goes there
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline slots\n  bootline slots --json | jq '.slots[] | select(.quarantined)'")]
pub struct Slots {
    #[command(flatten)]
    pub station: Station,
}

const SLOTS: [Column; 8] = [
    Column { head: "SLOT", at: "/slot" },
    Column { head: "PORT", at: "/port/port" },
    Column { head: "POWER", at: "/power" },
    Column { head: "PASSED", at: "/passed" },
    Column { head: "FAILED", at: "/failed" },
    Column { head: "YIELD %", at: "/yield_percent" },
    Column { head: "CLOSED", at: "/quarantined" },
    Column { head: "DEVICE", at: "/devices/0" },
];

pub async fn slots(client: &Client) -> Result<(), Trouble> {
    show::list(client.json, &client.get("/slots").await?, "slots", &SLOTS);
    Ok(())
}

/// Whether the station can do its work; the exit code is 0 or 1, as health checks want it
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  HEALTHCHECK CMD [\"bootline\", \"ready\"]\n  bootline ready --url https://station-1:8443 --ca cert.pem"
)]
pub struct Ready {
    #[command(flatten)]
    pub station: Station,
}

pub async fn ready(client: &Client) -> Result<(), Trouble> {
    match client.ready().await {
        Ok(answer) if client.json => show::json(&answer),
        Ok(_) => show::line("ready"),
        // One code for whatever it is: of others a supervisor makes something else.
        Err(trouble) => {
            eprintln!("bootline: not ready: {trouble}");
            return Err(Trouble::Found);
        }
    }
    Ok(())
}
