//! At start: image files and the ledger agree, or an alarm says that they do not.

use anyhow::Result;

use crate::core::observation::{Input, Observation};
use crate::images::Images;
use crate::ledger::Ledger;

/// An image whose file is gone or has another size cannot be written onto any device.
pub async fn missing_files(ledger: &Ledger, images: &Images) -> Result<()> {
    const CODE: &str = "images.damaged";
    let known = ledger.images().await?;
    let damaged = images.damaged(&known);
    let observation = match damaged.first() {
        Some(first) => {
            let detail =
                format!("{} of {} images cannot be written: {first}; upload it again", damaged.len(), known.len());
            Observation::AlarmRaised { code: CODE.to_owned(), detail }
        }
        None => Observation::AlarmCleared { code: CODE.to_owned() },
    };
    ledger.submit(Input::Observed(observation)).await?;
    Ok(())
}
