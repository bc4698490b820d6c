//! The library of EEPROM images and its door: images come in and are checked, and go out to devices with the
//! `bootconf.txt` of their project. They are at most 2 MiB, so they are held whole.

mod library;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::core::firmware::eeprom::{self, Eeprom};
use crate::core::firmware::{Firmware, FirmwarePlan};
use crate::core::floor::wanted_edits;
use crate::core::image::Digest;
use crate::core::observation::{Input, Observation};
use crate::core::refusal::Refusal;
use crate::firmware::library::{FolderFault, Library};
use crate::ledger::{Ledger, Recorded, SubmitError};

pub use crate::firmware::library::LARGEST;

/// The name under which this room keeps its place in the journal.
const SINK: &str = "firmware";
/// Events that may be read again after a crash.
const UNSAVED: u64 = 256;
/// Images kept at hand for the devices that come at the same time.
const AT_HAND: usize = 4;

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Firmwares {
    library: Library,
    ledger: Ledger,
    /// Held while a file and the ledger are brought to say the same. A std mutex, because only blocking threads take it.
    door: Arc<Mutex<()>>,
    made: Arc<Mutex<VecDeque<Made>>>,
}

/// An image as devices get it.
#[derive(Clone)]
struct Made {
    from: Digest,
    bootconf: Option<String>,
    sha256: Digest,
    bytes: Bytes,
}

impl Firmwares {
    pub fn open(data: &Path, ledger: Ledger) -> Result<Self, Fault> {
        Ok(Self { library: Library::open(data)?, ledger, door: Arc::default(), made: Arc::default() })
    }

    /// Takes in an image, or tells why not. One that is there already is no error: it is the same image.
    pub async fn take(
        &self,
        name: &str,
        expected: Option<Digest>,
        image: Result<Bytes, Refusal>,
    ) -> Result<Firmware, Refusal> {
        let name = firmware_name(name)?;
        let room = self.clone();
        let handle = tokio::runtime::Handle::current();
        blocking(move || {
            let taken = image.and_then(|image| room.store(&name, expected, &image, &handle));
            if let Err(refusal) = &taken {
                let (code, detail) = (refusal.code.clone(), refusal.detail.clone());
                let rejected = Observation::FirmwareRejected { name, code, detail, sha256: expected };
                if let Err(error) = handle.block_on(room.ledger.submit(Input::Observed(rejected))) {
                    tracing::warn!(%error, code = refusal.code, "cannot record that a firmware was rejected");
                }
            }
            taken
        })
        .await
    }

    /// Takes in a file below the import folder.
    pub async fn take_path(&self, name: &str, relative: &str, expected: Option<Digest>) -> Result<Firmware, Refusal> {
        let (room, relative) = (self.clone(), relative.to_owned());
        let image = blocking(move || room.library.import(&relative)).await;
        self.take(name, expected, image.map(Bytes::from)).await
    }

    fn store(
        &self,
        name: &str,
        expected: Option<Digest>,
        image: &Bytes,
        handle: &tokio::runtime::Handle,
    ) -> Result<Firmware, Refusal> {
        let id = digest(image);
        if let Some(expected) = expected.filter(|expected| *expected != id) {
            let detail = format!("the firmware has the sha256 {id}, announced was {expected}");
            return Err(Refusal::new(400, "sha256_mismatch", detail));
        }
        let eeprom = Eeprom::parse(image.to_vec()).map_err(unsuitable)?;
        let firmware = Firmware {
            id,
            name: name.to_owned(),
            size_bytes: image.len() as u64,
            chip: eeprom.chip(),
            version: eeprom.version(),
            built: eeprom.built(),
            bootconf: eeprom.bootconf().map_err(unsuitable)?.to_owned(),
            room_bytes: u32::try_from(eeprom.room()).unwrap_or(0),
            added_at: self.ledger.now(),
        };
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        self.library.place(image, id).map_err(|error| refusal_of(&error))?;
        handle.block_on(self.ledger.submit(Input::Observed(Observation::FirmwareIngested(firmware.clone()))))?;
        Ok(firmware)
    }

    /// The file as it was uploaded.
    pub async fn content(&self, id: Digest) -> Result<Bytes, Refusal> {
        Ok(self.make(id, None).await?.bytes)
    }

    /// The text of `pieeprom.sig` for it.
    pub async fn signature(&self, id: Digest) -> Result<String, Refusal> {
        let eeprom = Eeprom::parse(self.content(id).await?.to_vec()).map_err(unsuitable)?;
        let updated = eeprom.updated().or_else(|| eeprom.built()).unwrap_or(0);
        Ok(eeprom::signature(&id, updated))
    }

    /// The image of a plan; its bytes are those that the plan names.
    pub async fn planned(&self, plan: &FirmwarePlan) -> Result<Bytes, Refusal> {
        let made = self.make(plan.image, plan.bootconf.clone()).await?;
        if made.sha256 == plan.sha256 { Ok(made.bytes) } else { Err(missing(plan.image)) }
    }

    /// Tells the ledger what the images of active projects hash to.
    pub async fn prepare(&self) -> Result<(), Refusal> {
        let (projects, firmware) = (self.ledger.projects().await?, self.ledger.firmware().await?);
        for (firmware, bootconf) in wanted_edits(&projects, &firmware) {
            let sha256 = match self.make(firmware.id, Some(bootconf.clone())).await {
                Ok(made) => made.sha256,
                Err(refusal) => {
                    let damaged = Observation::AlarmRaised { code: DAMAGED.to_owned(), detail: refusal.detail.clone() };
                    self.ledger.submit(Input::Observed(damaged)).await?;
                    return Err(refusal);
                }
            };
            let edited = Observation::FirmwareEdited { firmware: firmware.id, bootconf, sha256 };
            self.ledger.submit(Input::Observed(edited)).await?;
        }
        Ok(())
    }

    async fn make(&self, from: Digest, bootconf: Option<String>) -> Result<Made, Refusal> {
        let at_hand = |made: &&Made| made.from == from && made.bootconf == bootconf;
        let found = self.made.lock().unwrap_or_else(PoisonError::into_inner).iter().find(at_hand).cloned();
        if let Some(made) = found {
            return Ok(made);
        }
        let library = self.library.clone();
        let made = blocking(move || make(&library, from, bootconf)).await?;
        let mut at_hand = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        at_hand.truncate(AT_HAND - 1);
        at_hand.push_front(made.clone());
        Ok(made)
    }

    /// At the start: an image whose file is gone or has another size cannot be given to any device.
    pub async fn check(&self) -> Result<(), SubmitError> {
        let known = self.ledger.firmware().await?;
        let damaged = self.library.damaged(&known);
        let observation = match damaged.first() {
            Some(first) => {
                let (name, id) = (&first.name, first.id);
                let detail = format!(
                    "{} of {} firmware images cannot be read: {name:?} ({id}); upload it again",
                    damaged.len(),
                    known.len()
                );
                Observation::AlarmRaised { code: DAMAGED.to_owned(), detail }
            }
            None => Observation::AlarmCleared { code: DAMAGED.to_owned() },
        };
        self.ledger.submit(Input::Observed(observation)).await.map(drop)
    }

    /// Does what the journal asks for, from where it left off: takes in files, and removes those of deleted images.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let mut saved = self.ledger.cursor(SINK).await.map_err(Fault::Ledger)?;
        let mut seen = saved;
        let mut journal = self.ledger.follow(saved);
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => break,
                page = journal.next() => page.map_err(Fault::Ledger)?,
            };
            let before = seen;
            let mut done = false;
            for event in &page {
                done |= self.heed(event).await.map_err(Fault::Ledger)?;
                seen = event.seq;
            }
            if done || seen - saved >= UNSAVED {
                self.save(seen.max(before)).await.map_err(Fault::Ledger)?;
                saved = seen;
            }
        }
        // If this does not get through, a few events are read again at the next start.
        let _ = self.save(seen).await;
        Ok(())
    }

    async fn save(&self, seq: u64) -> Result<(), SubmitError> {
        let place = Observation::Delivered { sink: SINK.to_owned(), seq };
        self.ledger.submit(Input::Observed(place)).await.map(drop)
    }

    /// Was there something to do?
    async fn heed(&self, event: &Recorded) -> Result<bool, SubmitError> {
        match event.name.as_str() {
            "firmware.removed" => self.clear_away(event).await?,
            "firmware.requested" => self.fetch(event).await,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether it came to anything is told by what the library tells of it.
    async fn fetch(&self, requested: &Recorded) {
        #[derive(serde::Deserialize)]
        struct Requested {
            data: Wanted,
        }
        #[derive(serde::Deserialize)]
        struct Wanted {
            name: String,
            path: String,
            #[serde(default)]
            sha256: Option<Digest>,
        }
        let Ok(Requested { data }) = serde_json::from_slice(&requested.body) else { return };
        if let Err(refusal) = self.take_path(&data.name, &data.path, data.sha256).await {
            tracing::info!(name = data.name, code = refusal.code, "a firmware was not taken in");
        }
    }

    /// A file that cannot be removed costs space and nothing else.
    async fn clear_away(&self, removed: &Recorded) -> Result<(), SubmitError> {
        let Ok(id) = removed.subject.parse::<Digest>() else { return Ok(()) };
        let room = self.clone();
        let handle = tokio::runtime::Handle::current();
        let cleared = tokio::task::spawn_blocking(move || {
            let _door = room.door.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been taken in again since.
            let known = handle.block_on(room.ledger.firmware())?;
            if known.iter().all(|firmware| firmware.id != id)
                && let Err(error) = room.library.remove(id)
            {
                tracing::warn!(firmware = %id, %error, "cannot remove the file of a deleted firmware");
            }
            Ok(())
        });
        cleared.await.unwrap_or(Ok(()))
    }
}

const DAMAGED: &str = "firmware.damaged";

fn make(library: &Library, from: Digest, bootconf: Option<String>) -> Result<Made, Refusal> {
    let bytes = library.read(from).ok().filter(|bytes| digest(bytes) == from).ok_or_else(|| missing(from))?;
    let bytes = match &bootconf {
        None => bytes,
        Some(text) => {
            Eeprom::parse(bytes).and_then(|eeprom| eeprom.with_bootconf(text.as_bytes())).map_err(unsuitable)?
        }
    };
    Ok(Made { from, bootconf, sha256: digest(&bytes), bytes: bytes.into() })
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let broken = || Refusal::new(500, "internal", "the firmware could not be worked on inside of the station");
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(broken()))
}

fn missing(id: Digest) -> Refusal {
    let detail = format!("the file of firmware {id} is gone or damaged; upload it again");
    Refusal::new(404, "firmware_missing", detail)
}

fn unsuitable(fault: eeprom::Fault) -> Refusal {
    let code = match fault {
        eeprom::Fault::Size(_) => "firmware_size",
        eeprom::Fault::TooLong { .. } => "firmware_too_long",
        _ => "firmware_content",
    };
    Refusal::new(400, code, fault.to_string())
}

fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::new(507, "disk_full", "the disk of the station is full: delete images that no project uses")
                .retryable()
        }
        _ => {
            tracing::error!(%error, "cannot store a firmware");
            Refusal::new(500, "internal", "the firmware could not be stored; the station's log says why").retryable()
        }
    }
}

/// For people: any text, and never a path.
fn firmware_name(text: &str) -> Result<String, Refusal> {
    let name = text.trim();
    match name.chars().count() {
        0 => Err(Refusal::invalid("/name", "a firmware needs a name")),
        201.. => Err(Refusal::invalid("/name", "the name is longer than 200 characters")),
        _ if name.contains(char::is_control) => Err(Refusal::invalid("/name", "the name contains control characters")),
        _ => Ok(name.to_owned()),
    }
}

/// What ends this room.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// At the start.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// The journal cannot be read.
    #[error("cannot follow the journal for firmware")]
    Ledger(#[source] SubmitError),
}

#[cfg(test)]
mod tests;
