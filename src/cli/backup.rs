//! `bootline backup` and `bootline restore`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::app::{BackedImages, Existing, Manifest, Restored, make_backup, restore_backup};
use crate::cli::exit;
use crate::config;

/// Writes the station into one file, beside the running agent: the database, the firmware, and a list of the images.
///
/// The file holds secrets: keep it as safe as the data folder.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline backup /media/usb/st-01.tar --data /var/lib/bootline")]
pub struct BackupArgs {
    /// The file to make; one that is there is never overwritten
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// The images too, not only their list
    #[arg(long)]
    with_images: bool,
    /// What was written, as JSON
    #[arg(long)]
    json: bool,
}

/// Makes a station from a backup; the agent must be stopped. It gets a new epoch, so that consumers reconcile.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline restore /media/usb/st-01.tar --data /var/lib/bootline")]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Move a station that is there aside
    #[arg(long)]
    replace: bool,
    /// What was restored, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct Place {
    /// The data folder; else that of the configuration
    #[arg(long)]
    data: Option<PathBuf>,
    /// The configuration; else ./conf/bootline.yml or /etc/bootline/bootline.yml
    #[arg(long, env = "BOOTLINE_CONFIG")]
    config: Option<PathBuf>,
}

impl Place {
    fn data(self) -> Result<PathBuf, config::ConfigError> {
        match self.data {
            Some(data) => Ok(data),
            None => {
                let environment: BTreeMap<String, String> = std::env::vars().collect();
                Ok(config::load(&config::find(self.config)?, &environment, None)?.data)
            }
        }
    }
}

pub fn backup(args: BackupArgs) -> ExitCode {
    let data = match args.place.data() {
        Ok(data) => data,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let images = if args.with_images { BackedImages::Included } else { BackedImages::Listed };
    match make_backup(&data, &args.file, images) {
        Ok(manifest) if args.json => print(&manifest),
        Ok(manifest) => {
            println!("{}: {}", args.file.display(), told(&manifest));
            for image in manifest.images.iter().filter(|image| !image.included) {
                println!("not in it: image {} {:?}, {} bytes", image.sha256, image.name, image.size_bytes);
            }
            ExitCode::SUCCESS
        }
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn told(manifest: &Manifest) -> String {
    let Manifest { epoch, newest_sequence, images, .. } = manifest;
    let included = images.iter().filter(|image| image.included).count();
    format!("epoch {epoch}, events up to {newest_sequence}, {included} of {} images", images.len())
}

pub fn restore(args: RestoreArgs) -> ExitCode {
    let data = match args.place.data() {
        Ok(data) => data,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let existing = if args.replace { Existing::Replace } else { Existing::Refuse };
    match restore_backup(&args.file, &data, existing) {
        Ok(restored) if args.json => print(&restored),
        Ok(restored) => {
            let Restored { made_at, former_epoch, epoch, newest_sequence, missing, replaced } = restored;
            println!("restored the station as of {made_at}: events up to {newest_sequence}");
            println!("epoch {epoch} in the place of {former_epoch}: consumers reconcile");
            if let Some(aside) = replaced {
                println!("the station that was there is in {}", aside.display());
            }
            for image in missing {
                println!("upload again: image {} {:?}, {} bytes", image.sha256, image.name, image.size_bytes);
            }
            ExitCode::SUCCESS
        }
        Err(error) => exit::say(exit::code_of(&error), &error),
    }
}

fn print(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => exit::say(exit::SOFTWARE, &error.into()),
    }
}
