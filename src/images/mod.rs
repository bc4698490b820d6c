//! The image library and its door: streams and files come in, are hashed and decoded once, and are told to the ledger.

mod decode;
mod ingest;
mod library;
mod survey;
mod table;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::image::{Digest, Image};
use crate::core::observation::{Input, Observation};
use crate::core::refusal::Refusal;
use crate::images::ingest::{Intake, image_name, refusal_of};
use crate::images::library::{FolderFault, Library};
use crate::images::survey::survey;
use crate::ledger::{Ledger, Recorded, SubmitError};

pub use crate::images::library::Damage;

/// Chunks of an upload that wait for the disk; the network waits when there are more.
const CHUNKS: usize = 8;
const FILE_CHUNK: usize = 1 << 20;
/// The name under which this room keeps its place in the journal.
const SINK: &str = "images";
/// Events that may be read again after a crash.
const UNSAVED: u64 = 256;

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Images {
    library: Library,
    ledger: Ledger,
    /// Held while a file and the ledger are brought to say the same: an image that is deleted and taken in again at
    /// the same time must not lose its new file. A std mutex, because only blocking threads take it.
    door: Arc<Mutex<()>>,
}

/// What comes in from the network.
enum Chunk {
    Bytes(Bytes),
    /// A channel that closes without this is an upload that was cut off.
    End,
}

impl Images {
    pub fn open(data: &Path, ledger: Ledger) -> Result<Self, Fault> {
        Ok(Self { library: Library::open(data)?, ledger, door: Arc::default() })
    }

    /// Where the file of an image is, if there is one.
    pub fn file(&self, id: Digest) -> PathBuf {
        self.library.file(id)
    }

    /// Images whose file is gone or has another size: asked at the start.
    pub fn damaged(&self, images: &[Image]) -> Vec<Damage> {
        self.library.damaged(images)
    }

    /// Takes in an upload. An image that is there already is no error: it is the same image.
    /// `expected` is asked at the end, because a form may tell the sum behind the file.
    pub async fn take<X, S, E>(&self, name: &str, expected: X, upload: S) -> Result<Image, Refusal>
    where
        X: FnOnce() -> Result<Option<Digest>, Refusal> + Send + 'static,
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display + Send,
    {
        let name = image_name(name)?;
        let (chunks, inbox) = mpsc::channel(CHUNKS);
        let images = self.clone();
        let handle = Handle::current();
        // It goes on without us if the client hangs up and this future is dropped: the upload is then cut off, and
        // that too is told.
        let intake = tokio::task::spawn_blocking(move || images.bring_in(name, expected, &handle, uploaded(inbox)));
        send(upload, chunks).await;
        intake
            .await
            .unwrap_or_else(|_| Err(Refusal::new(500, "internal", "the upload broke off inside of the station")))
    }

    /// Takes in a file below the import folder.
    pub async fn take_path(&self, name: &str, relative: &str, expected: Option<Digest>) -> Result<Image, Refusal> {
        let name = image_name(name)?;
        let images = self.clone();
        let relative = relative.to_owned();
        let handle = Handle::current();
        let intake = tokio::task::spawn_blocking(move || {
            let file = images.library.import(&relative)?;
            images.bring_in(name, move || Ok(expected), &handle, read(file))
        });
        intake
            .await
            .unwrap_or_else(|_| Err(Refusal::new(500, "internal", "the import broke off inside of the station")))
    }

    /// Removes the files of deleted images: a follower of the journal, from where it left off.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let mut saved = self.ledger.cursor(SINK).await.map_err(Fault::Ledger)?;
        let mut seen = saved;
        let mut journal = self.ledger.follow(saved);
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => break,
                page = journal.next() => page.map_err(Fault::Ledger)?,
            };
            for event in &page {
                if event.name == "image.removed" {
                    self.clear_away(event).await.map_err(Fault::Ledger)?;
                }
                seen = event.seq;
            }
            if seen - saved >= UNSAVED {
                self.save(seen).await.map_err(Fault::Ledger)?;
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

    /// A file that cannot be removed costs space and nothing else.
    async fn clear_away(&self, removed: &Recorded) -> Result<(), SubmitError> {
        let Ok(id) = removed.subject.parse::<Digest>() else { return Ok(()) };
        let images = self.clone();
        let handle = Handle::current();
        let cleared = tokio::task::spawn_blocking(move || {
            let _door = images.door.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been taken in again since.
            let known = handle.block_on(images.ledger.images())?;
            if known.iter().all(|image| image.id != id)
                && let Err(error) = images.library.remove(id)
            {
                tracing::warn!(image = %id, %error, "cannot remove the file of a deleted image");
            }
            Ok(())
        });
        cleared.await.unwrap_or(Ok(()))
    }

    /// On a blocking thread: from the first chunk to the word of the ledger.
    fn bring_in<X, I>(&self, name: String, expected: X, handle: &Handle, chunks: I) -> Result<Image, Refusal>
    where
        X: FnOnce() -> Result<Option<Digest>, Refusal>,
        I: Iterator<Item = Result<Bytes, Refusal>>,
    {
        let mut sha256 = None;
        let expected = || expected().inspect(|expected| sha256 = *expected);
        let brought = self.store(&name, expected, chunks, handle);
        if let Err(refusal) = &brought {
            let rejected =
                Observation::ImageRejected { name, code: refusal.code.clone(), detail: refusal.detail.clone(), sha256 };
            if let Err(error) = handle.block_on(self.ledger.submit(Input::Observed(rejected))) {
                tracing::warn!(%error, code = refusal.code, "cannot record that an image was rejected");
            }
        }
        brought
    }

    fn store<X, I>(&self, name: &str, expected: X, chunks: I, handle: &Handle) -> Result<Image, Refusal>
    where
        X: FnOnce() -> Result<Option<Digest>, Refusal>,
        I: Iterator<Item = Result<Bytes, Refusal>>,
    {
        let mut intake = Intake::new(self.library.part().map_err(|error| refusal_of(&error))?);
        for chunk in chunks {
            intake.feed(&chunk?)?;
        }
        let (part, taken) = intake.finish(expected()?)?;
        let file = BufReader::with_capacity(FILE_CHUNK, part.reopen().map_err(|error| refusal_of(&error))?);
        let surveyed = survey(file, taken.id, &Arc::default())?;
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        self.library.place(part, taken.id).map_err(|error| refusal_of(&error))?;
        let image = Image {
            id: taken.id,
            name: name.to_owned(),
            size_bytes: taken.size_bytes,
            compression: surveyed.compression,
            raw_sha256: surveyed.raw_sha256,
            raw_size_bytes: surveyed.raw_size_bytes,
            survey: surveyed.survey,
            added_at: self.ledger.now(),
        };
        handle.block_on(self.ledger.submit(Input::Observed(Observation::ImageIngested(image.clone()))))?;
        Ok(image)
    }
}

/// Hands an upload to the blocking side. Ends early when that side has seen enough to say no.
async fn send<S, E>(upload: S, chunks: mpsc::Sender<Chunk>)
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: std::fmt::Display + Send,
{
    let mut upload = pin!(upload);
    while let Some(chunk) = upload.next().await {
        match chunk {
            Ok(bytes) => {
                if chunks.send(Chunk::Bytes(bytes)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "an upload was cut off");
                return;
            }
        }
    }
    // Nobody listens any more where the intake has ended with a refusal.
    let _ = chunks.send(Chunk::End).await;
}

fn uploaded(mut inbox: mpsc::Receiver<Chunk>) -> impl Iterator<Item = Result<Bytes, Refusal>> {
    std::iter::from_fn(move || match inbox.blocking_recv() {
        Some(Chunk::Bytes(bytes)) => Some(Ok(bytes)),
        Some(Chunk::End) => None,
        None => Some(Err(
            Refusal::new(400, "upload_cut", "the upload ended before the image did; send it again").retryable()
        )),
    })
}

fn read(mut file: File) -> impl Iterator<Item = Result<Bytes, Refusal>> {
    let mut buffer = vec![0; FILE_CHUNK];
    std::iter::from_fn(move || match file.read(&mut buffer) {
        Ok(0) => None,
        Ok(count) => Some(Ok(Bytes::copy_from_slice(&buffer[..count]))),
        Err(error) => Some(Err(refusal_of(&error))),
    })
}

/// What ends this room.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// At the start.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// The journal cannot be read.
    #[error("cannot follow the journal for deleted images")]
    Ledger(#[source] SubmitError),
}

#[cfg(test)]
mod tests;
