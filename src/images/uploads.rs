//! Uploads that can be resumed (the tus protocol speaks to this): one file each, which grows from request to request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::core::image::Digest;
use crate::core::job::{Job, JobState};
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::images::background::{self, Priority};
use crate::images::ingest::{image_name, refusal_of};
use crate::images::partial::{self, Label, Partial};
use crate::images::survey::MAX_RAW;
use crate::images::{CHUNKS, Chunk, Images, minted, send, uploaded};
use crate::ledger::SubmitError;

/// Begun and not ended; each keeps a file.
const MOST: usize = 64;

/// Who works on an upload holds its slot, and finds in it what the one before has left open.
type Slot = Arc<tokio::sync::Mutex<Option<Partial>>>;

/// A handle. The std mutex is held only to find a slot.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    slots: Arc<Mutex<HashMap<Uuid, Slot>>>,
}

impl Slots {
    fn of(&self, id: Uuid) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    fn forget(&self, id: Uuid) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// A request that brings more of an upload.
struct Going {
    id: Uuid,
    offset: u64,
    inbox: mpsc::Receiver<Chunk>,
}

/// Where an upload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub id: Uuid,
    pub name: String,
    pub offset: u64,
    pub length: u64,
    /// Given up then, unless more comes.
    pub expires_at: Timestamp,
    /// It is whole and looked at: its job has the id of the upload.
    pub done: bool,
}

fn unknown(id: Uuid) -> Refusal {
    Refusal::not_found("upload", id)
}

impl Images {
    pub async fn begin_upload(&self, name: &str, length: u64, sha256: Option<Digest>) -> Result<Upload, Refusal> {
        let name = image_name(name)?;
        if length == 0 {
            return Err(Refusal::new(400, "empty", "the image has no bytes"));
        }
        if length > MAX_RAW {
            return Err(Refusal::new(413, "too_large", format!("the image is larger than {MAX_RAW} bytes")));
        }
        let id = Uuid::now_v7();
        let label = Label { name, length: Some(length), sha256, touched_at: self.ledger.now(), ..Label::default() };
        let library = self.library.clone();
        let begun = label.clone();
        background::run("upload", Priority::Low, move || {
            let wrong = |error: std::io::Error| refusal_of(&error);
            let open = partial::all(&library.uploads).map_err(wrong)?;
            if open.len() >= MOST {
                let detail = format!("{MOST} uploads are under way; end or delete one of them");
                return Err(Refusal::new(503, "busy", detail).retryable());
            }
            // What the others have announced will come too.
            let rest = |label: &Label| label.length.unwrap_or(0).saturating_sub(label.offset);
            let coming: u64 = open.iter().map(|(_, label)| rest(label)).sum();
            library.room_for(coming.saturating_add(length)).map_err(wrong)?;
            Partial::create(&library.uploads, &id.to_string(), begun).map_err(wrong)
        })
        .await??;
        Ok(self.shown(id, &label))
    }

    fn shown(&self, id: Uuid, label: &Label) -> Upload {
        Upload {
            id,
            name: label.name.clone(),
            offset: label.offset,
            length: label.length.unwrap_or(0),
            expires_at: label.touched_at.plus(self.settings.upload_expiry),
            done: false,
        }
    }

    /// `busy` while another request sends to it: only that one knows how far it is.
    pub async fn upload(&self, id: Uuid) -> Result<Upload, Refusal> {
        let slot = self.slots.of(id);
        let held = slot.try_lock().map_err(|_| locked(id))?;
        let label = match held.as_ref() {
            Some(partial) => Some(partial.label.clone()),
            None => partial::label(&self.library.uploads, &id.to_string()).map_err(|error| refusal_of(&error))?,
        };
        drop(held);
        if let Some(label) = label {
            return Ok(self.shown(id, &label));
        }
        self.slots.forget(id);
        let job = self.ledger.job(&id.to_string()).await?.filter(|job| job.kind == "image.upload");
        let job = job.ok_or_else(|| unknown(id))?;
        let length = job.size_bytes.unwrap_or(0);
        Ok(Upload { id, name: job.name, offset: length, length, expires_at: job.started_at, done: true })
    }

    /// Goes on with an upload at `offset`. What comes is kept, however the request ends.
    pub async fn append<S, E>(&self, id: Uuid, offset: u64, body: S) -> Result<Upload, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display + Send,
    {
        let slot = self.slots.of(id).try_lock_owned().map_err(|_| locked(id))?;
        let (chunks, inbox) = mpsc::channel(CHUNKS);
        let (images, handle) = (self.clone(), Handle::current());
        // It holds the slot to its end, also when the client hangs up and this future is dropped.
        let work = background::run("upload", Priority::Low, move || {
            let mut slot = slot;
            images.go_on(&mut slot, Going { id, offset, inbox }, &handle)
        });
        let (appended, ()) = futures_util::future::join(work, send(body, chunks)).await;
        appended?
    }

    fn go_on(&self, slot: &mut Option<Partial>, going: Going, handle: &Handle) -> Result<Upload, Refusal> {
        let Going { id, offset, inbox } = going;
        let mut partial = match slot.take() {
            Some(partial) => partial,
            None => {
                let opened = Partial::open(&self.library.uploads, &id.to_string());
                opened.map_err(|error| refusal_of(&error))?.ok_or_else(|| unknown(id))?
            }
        };
        let at = partial.label.offset;
        let poured = match at == offset {
            true => self.pour(&mut partial, inbox),
            false => {
                let detail = format!("the upload is at byte {at}, not {offset}");
                Err(Refusal::new(409, "offset_mismatch", detail))
            }
        };
        let shown = self.shown(id, &partial.label);
        if poured.is_err() || shown.offset < shown.length {
            *slot = Some(partial);
            return poured.map(|()| shown);
        }
        let (name, sha256) = (partial.label.name.clone(), partial.label.sha256);
        let empty = self.job(&name, minted(id), partial.digest(), shown.length);
        let done = self.complete(partial, empty, handle);
        self.slots.forget(id);
        if let Err(refusal) = &done
            && !refusal.retryable
        {
            let _ = partial::forget(&self.library.uploads, &id.to_string());
            self.reject(name, sha256, refusal, handle);
        }
        done.map(|()| Upload { done: true, ..shown })
    }

    fn pour(&self, partial: &mut Partial, inbox: mpsc::Receiver<Chunk>) -> Result<(), Refusal> {
        let wrong = |error: std::io::Error| refusal_of(&error);
        let length = partial.label.length.unwrap_or(0);
        self.library.room_for(length.saturating_sub(partial.label.offset)).map_err(wrong)?;
        // A cut is what this is for: it ends the request and nothing else.
        let mut chunks = uploaded(inbox).map_while(Result::ok);
        let poured = chunks.try_for_each(|chunk| {
            if partial.label.offset + chunk.len() as u64 > length {
                let detail = format!("more comes than the {length} bytes that were announced");
                return Err(Refusal::new(413, "too_large", detail));
            }
            partial.write(&chunk).map_err(wrong)
        });
        partial.label.touched_at = self.ledger.now();
        partial.save().map_err(wrong)?;
        poured
    }

    pub async fn abandon_upload(&self, id: Uuid) -> Result<(), Refusal> {
        let slot = self.slots.of(id).try_lock_owned().map_err(|_| locked(id))?;
        let known = partial::label(&self.library.uploads, &id.to_string()).map_err(|error| refusal_of(&error))?;
        self.slots.forget(id);
        known.ok_or_else(|| unknown(id))?;
        let forgotten = partial::forget(&self.library.uploads, &id.to_string());
        drop(slot);
        forgotten.map_err(|error| refusal_of(&error))
    }

    /// Gives up uploads that nobody goes on with.
    pub async fn expire_uploads(&self) {
        let now = self.ledger.now();
        let Ok(open) = partial::all(&self.library.uploads) else { return };
        for (id, label) in open {
            let Ok(id) = id.parse::<Uuid>() else { continue };
            if label.touched_at.plus(self.settings.upload_expiry) < now && self.abandon_upload(id).await.is_ok() {
                tracing::info!(upload = %id, name = label.name, "an upload that nobody went on with is given up");
            }
        }
    }
}

fn locked(id: Uuid) -> Refusal {
    Refusal::new(423, "locked", format!("another request sends to upload {id}")).retryable()
}

/// At the start: ends what was whole, and clears away what was fetched for jobs that have ended.
pub async fn recover(images: &Images) -> Result<(), SubmitError> {
    let fault = |error: std::io::Error| SubmitError::Unavailable(error.to_string());
    for (id, label) in partial::all(&images.library.uploads).map_err(fault)? {
        let Ok(id) = id.parse::<Uuid>() else { continue };
        let known = images.ledger.job(&id.to_string()).await?;
        match label.whole.filter(|whole| images.library.file(*whole).exists()) {
            Some(whole) => {
                if known.is_none() {
                    let job = images.job(&label.name, minted(id), whole, label.offset);
                    tell_stored(images, job).await?;
                }
                partial::forget(&images.library.uploads, &id.to_string()).map_err(fault)?;
            }
            None if label.length == Some(label.offset) => {
                let nothing = futures_util::stream::empty::<Result<Bytes, std::convert::Infallible>>();
                if let Err(error) = images.append(id, label.offset, nothing).await {
                    tracing::warn!(upload = %id, %error, "an upload that is whole is no image");
                }
            }
            None => {}
        }
    }
    for (id, label) in partial::all(&images.library.fetch).map_err(fault)? {
        let job = images.ledger.job(&id).await?;
        let whole = label.whole.filter(|whole| images.library.file(*whole).exists());
        match (job.filter(|job| job.state == JobState::Running), whole) {
            (Some(job), None) if job.image.is_none() => continue,
            (Some(job), Some(whole)) if job.image.is_none() => {
                let job = Job { image: Some(whole), size_bytes: Some(label.offset), ..job };
                tell_stored(images, job).await?;
            }
            _ => {}
        }
        partial::forget(&images.library.fetch, &id).map_err(fault)?;
    }
    Ok(())
}

async fn tell_stored(images: &Images, job: Job) -> Result<(), SubmitError> {
    use crate::core::observation::{Input, Observation};
    images.ledger.submit(Input::Observed(Observation::ImageStored(Box::new(job)))).await?;
    images.wake.notify_one();
    Ok(())
}
