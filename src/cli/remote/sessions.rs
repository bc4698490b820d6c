//! `bootline sessions` and `bootline devices`.

use std::io::Write as _;

use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::cli::remote::client::{Client, Trouble, away};
use crate::cli::remote::show::{self, Column};
use crate::cli::remote::{Station, escaped};

/// Attempts on devices, the newest first
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  bootline sessions --outcome failed --from 2026-11-24T00:00:00Z\n  bootline sessions --project gateway-3 --csv > gateway-3.csv"
)]
pub struct SessionArgs {
    #[arg(long)]
    project: Option<String>,
    /// passed, failed, aborted, interrupted or open
    #[arg(long)]
    outcome: Option<String>,
    #[arg(long)]
    mac: Option<String>,
    #[arg(long)]
    serial: Option<String>,
    /// Why it did not pass
    #[arg(long)]
    code: Option<String>,
    /// Jumpers as the module tells them
    #[arg(long)]
    board: Option<String>,
    /// Its SHA-256
    #[arg(long)]
    image: Option<String>,
    /// Started then or later (RFC 3339)
    #[arg(long)]
    from: Option<String>,
    /// Started before
    #[arg(long)]
    to: Option<String>,
    /// Occurs in MAC, serial, project, code, detail, board or circuit
    #[arg(long, short)]
    query: Option<String>,
    /// At most so many; of a CSV, all without it
    #[arg(long)]
    limit: Option<u32>,
    /// As CSV, all that the filters take
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    pub station: Station,
}

/// Devices that were seen, in the order of their MAC
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline devices --query dca632")]
pub struct DeviceArgs {
    #[arg(long)]
    serial: Option<String>,
    /// Seen then or later (RFC 3339)
    #[arg(long)]
    from: Option<String>,
    /// Seen last before
    #[arg(long)]
    to: Option<String>,
    /// Occurs in MAC or serial
    #[arg(long, short)]
    query: Option<String>,
    /// Behind this MAC
    #[arg(long)]
    after: Option<String>,
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    pub station: Station,
}

/// `?a=b&c=d` of what is given.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_deref()?))));
    let text = given.collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

const SESSIONS: [Column; 7] = [
    Column { head: "STARTED", at: "/started_at" },
    Column { head: "MAC", at: "/mac" },
    Column { head: "SERIAL", at: "/serial" },
    Column { head: "PROJECT", at: "/project" },
    Column { head: "TRY", at: "/attempt" },
    Column { head: "OUTCOME", at: "/outcome" },
    Column { head: "CODE", at: "/code" },
];

pub async fn sessions(client: &Client, args: SessionArgs) -> Result<(), Trouble> {
    let pairs = [
        ("project", args.project),
        ("outcome", args.outcome),
        ("mac", args.mac),
        ("serial", args.serial),
        ("code", args.code),
        ("board", args.board),
        ("image", args.image),
        ("from", args.from),
        ("to", args.to),
        ("q", args.query),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    if args.csv {
        return csv(client, &query(&pairs)).await;
    }
    show::list(client.json, &client.get(&format!("/sessions{}", query(&pairs))).await?, "sessions", &SESSIONS);
    Ok(())
}

/// As it comes: a table of a million rows is never in memory.
async fn csv(client: &Client, query: &str) -> Result<(), Trouble> {
    let mut body = client.open(&format!("/sessions.csv{query}")).await?.into_body();
    let mut out = std::io::stdout().lock();
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(away)?.into_data()
            && out.write_all(&bytes).is_err()
        {
            // `| head` has seen enough.
            return Ok(());
        }
    }
    out.flush().map_err(|error| Trouble::Here(format!("cannot write: {error}")))
}

const DEVICES: [Column; 7] = [
    Column { head: "MAC", at: "/mac" },
    Column { head: "SERIAL", at: "/serial" },
    Column { head: "MODEL", at: "/model" },
    Column { head: "SEEN", at: "/seen_at" },
    Column { head: "TRIES", at: "/attempts" },
    Column { head: "LAST", at: "/last_outcome" },
    Column { head: "FINISHED", at: "/finished" },
];

pub async fn devices(client: &Client, args: DeviceArgs) -> Result<(), Trouble> {
    let pairs = [
        ("serial", args.serial),
        ("from", args.from),
        ("to", args.to),
        ("q", args.query),
        ("after", args.after),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    let answer: Value = client.get(&format!("/devices{}", query(&pairs))).await?;
    show::list(client.json, &answer, "devices", &DEVICES);
    Ok(())
}
