//! `bootline image` and `bootline firmware`.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::cli::remote::client::{Client, Trouble};
use crate::cli::remote::show::{self, Column};
use crate::cli::remote::{body, escaped, one, shown};

/// Images of the library
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Example:\n  bootline image add gateway-3.2.img.xz")]
pub enum ImageVerb {
    /// All of them
    List,
    /// Takes in a file: raw, xz, gz, bz2 or zstd
    Add(Add),
    /// It goes, if no project names it
    Delete {
        /// Its SHA-256
        image: String,
    },
}

/// EEPROM images of the library
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Example:\n  bootline firmware add pieeprom-2026-08-04.bin")]
pub enum FirmwareVerb {
    /// All of them
    List,
    /// Takes in a file
    Add(Add),
    /// It goes, if no project names it
    Delete {
        /// Its SHA-256
        firmware: String,
    },
}

#[derive(clap::Args, Debug)]
pub struct Add {
    file: PathBuf,
    /// For people; else the name of the file
    #[arg(long)]
    name: Option<String>,
    /// What it must hash to
    #[arg(long)]
    sha256: Option<String>,
}

impl Add {
    fn path(&self, noun: &str) -> Result<String, Trouble> {
        let named = || self.file.file_name().and_then(OsStr::to_str).map(str::to_owned);
        let name = self.name.clone().or_else(named);
        let name = name.ok_or_else(|| Trouble::Usage("the file needs a --name".to_owned()))?;
        let sum = self.sha256.as_ref().map(|sum| format!("&sha256={}", escaped(sum))).unwrap_or_default();
        Ok(format!("/{noun}?name={}{sum}", escaped(&name)))
    }
}

const IMAGES: [Column; 5] = [
    Column { head: "IMAGE", at: "/id" },
    Column { head: "STATE", at: "/state" },
    Column { head: "BYTES", at: "/size_bytes" },
    Column { head: "RAW BYTES", at: "/raw_size_bytes" },
    Column { head: "NAME", at: "/name" },
];

const FIRMWARE: [Column; 4] = [
    Column { head: "FIRMWARE", at: "/id" },
    Column { head: "CHIP", at: "/chip" },
    Column { head: "VERSION", at: "/version" },
    Column { head: "NAME", at: "/name" },
];

pub async fn image(client: &Client, verb: ImageVerb) -> Result<(), Trouble> {
    match verb {
        ImageVerb::List => show::list(client.json, &client.get("/images").await?, "images", &IMAGES),
        ImageVerb::Add(add) => shown(client, client.upload(&add.path("images")?, body::of(&add.file)?).await?),
        ImageVerb::Delete { image } => shown(client, client.delete(&one("images", &image)).await?),
    }
    Ok(())
}

pub async fn firmware(client: &Client, verb: FirmwareVerb) -> Result<(), Trouble> {
    match verb {
        FirmwareVerb::List => show::list(client.json, &client.get("/firmware").await?, "firmware", &FIRMWARE),
        FirmwareVerb::Add(add) => shown(client, client.upload(&add.path("firmware")?, body::of(&add.file)?).await?),
        FirmwareVerb::Delete { firmware } => shown(client, client.delete(&one("firmware", &firmware)).await?),
    }
    Ok(())
}
