//! At start: image files and the ledger agree, or an alarm says that they do not.

use std::collections::HashMap;

use anyhow::Result;

use crate::core::image::Digest;
use crate::core::observation::{Input, Observation};
use crate::images::Images;
use crate::ledger::Ledger;

/// An image whose file is gone or has another size cannot be written onto any device. One whose file is of the right
/// size again is not trusted for that: it was damaged before, and only a new upload or a reading of it says otherwise.
pub async fn missing_files(ledger: &Ledger, images: &Images) -> Result<()> {
    let known = ledger.images().await?;
    let kept = ledger.keepings().await?;
    let damaged: HashMap<Digest, String> =
        images.damaged(&known).into_iter().map(|damage| (damage.image, damage.what)).collect();
    for (image, what) in damaged {
        let said = kept.get(&image).is_some_and(|keeping| keeping.damage.is_some());
        if !said {
            ledger.submit(Input::Observed(Observation::ImageChecked { image, damage: Some(what) })).await?;
        }
    }
    Ok(())
}
