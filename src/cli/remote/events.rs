//! `bootline events`: the journal, and what comes.

use std::time::Duration;

use serde_json::Value;

use crate::cli::remote::client::{Client, Trouble};
use crate::cli::remote::sessions::query;
use crate::cli::remote::{Station, show};

/// How often a follower looks for news.
const LOOK: Duration = Duration::from_millis(500);

/// Events, oldest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline events --follow --type 'device.*'")]
pub struct Args {
    /// Goes on with what comes, until it is interrupted; a station that is away is waited for
    #[arg(long, short)]
    follow: bool,
    /// Behind this sequence number; else the newest 100, or what comes
    #[arg(long)]
    after: Option<u64>,
    /// A name, `device.failed`, or the beginning of names, `device.*`
    #[arg(long = "type")]
    name: Option<String>,
    /// Of the subject: device, project, image, firmware, rule, script, station, command
    #[arg(long)]
    kind: Option<String>,
    /// Of the subject: the MAC of a device, the id of a project
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    pub station: Station,
}

impl Args {
    async fn page(&self, client: &Client, place: (&'static str, u64)) -> Result<Value, Trouble> {
        let pairs = [
            (place.0, Some(place.1.to_string())),
            ("type", self.name.clone()),
            ("kind", self.kind.clone()),
            ("id", self.id.clone()),
        ];
        client.get(&format!("/events{}", query(&pairs))).await
    }
}

pub async fn events(client: &Client, args: Args) -> Result<(), Trouble> {
    let first = match (args.after, args.follow) {
        (Some(after), _) => args.page(client, ("after", after)).await?,
        (None, true) => {
            let newest = client.get("/events?limit=1").await?["newest"].as_u64().unwrap_or_default();
            args.page(client, ("after", newest)).await?
        }
        (None, false) => args.page(client, ("before", i64::MAX.unsigned_abs())).await?,
    };
    told(client, &first);
    if !args.follow {
        return Ok(());
    }
    let mut after = first["next_after"].as_u64().unwrap_or_default();
    let mut looks = tokio::time::interval(LOOK);
    let mut is_away = false;
    loop {
        looks.tick().await;
        match args.page(client, ("after", after)).await {
            Ok(page) => {
                told(client, &page);
                after = page["next_after"].as_u64().unwrap_or(after);
                is_away = false;
            }
            Err(Trouble::Away(why)) => {
                if !is_away {
                    eprintln!("bootline: {why}; waiting for it");
                }
                is_away = true;
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

fn told(client: &Client, page: &Value) {
    for event in page["events"].as_array().into_iter().flatten() {
        if client.json {
            show::line(&event.to_string());
        } else {
            show::line(&sentence(event));
        }
    }
}

fn sentence(event: &Value) -> String {
    let text = |at: &str| event.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let name = text("/type").trim_start_matches("io.bootline.").trim_end_matches(".v1");
    let sequence = text("/sequence").trim_start_matches('0');
    let more = ["/data/step", "/data/project", "/data/code", "/data/detail"].map(text);
    let more: Vec<&str> = more.into_iter().filter(|part| !part.is_empty()).collect();
    show::printable(&format!("{sequence} {} {name} {} {}", text("/time"), text("/subject"), more.join(" ")))
}
