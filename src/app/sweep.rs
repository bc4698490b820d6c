//! Image files and the ledger agree: a removed image leaves no file, and a file that is gone raises an alarm.

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::core::image::Digest;
use crate::core::observation::{Input, Observation};
use crate::images::Images;
use crate::ledger::Ledger;

/// At start: an image whose file is gone or has another size cannot be written onto any device.
pub async fn missing_files(ledger: &Ledger, images: &Images) -> Result<()> {
    let known = ledger.images().await?;
    let damaged = images.damaged(&known);
    let observation = match damaged.first() {
        Some(first) => Observation::AlarmRaised { code: "images.damaged".to_owned(), detail: format!("{} of {} images: {first}", damaged.len(), known.len()) },
        None => Observation::AlarmCleared { code: "images.damaged".to_owned() },
    };
    ledger.submit(Input::Observed(observation)).await?;
    Ok(())
}

/// Deletes the file of each image that is removed; what a crash left behind is deleted at the next start.
pub async fn removed_images(ledger: Ledger, images: Images, stop: CancellationToken) -> Result<()> {
    let mut follower = ledger.follow(ledger.newest());
    let known: Vec<Digest> = ledger.images().await?.iter().map(|image| image.id).collect();
    images.keep_only(&known);
    loop {
        let page = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Cancel-safe, see `Follower::next`.
            page = follower.next() => page?,
        };
        for event in page.iter().filter(|event| event.name == "image.removed") {
            let gone = event.subject.parse().ok();
            // It may have been taken in again since.
            let again = ledger.images().await?.iter().any(|image| Some(image.id) == gone);
            if let Some(id) = gone.filter(|_| !again) {
                images.remove(id);
            }
        }
    }
}
