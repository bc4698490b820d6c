//! The image library and its door: files come in by streams, by breaks, by URL and from a folder, are hashed as they
//! come and looked at once, and are told to the ledger.

mod background;
mod board;
mod chores;
mod decode;
mod fetch;
mod ingest;
mod jobs;
mod library;
mod mapped;
mod partial;
mod survey;
mod table;
mod uploads;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::core::command::CommandId;
use crate::core::floor::Progress;
use crate::core::image::{Digest, Image};
use crate::core::job::{Job, JobState};
use crate::core::observation::{Input, Observation};
use crate::core::plan::Plan;
use crate::core::refusal::Refusal;
use crate::images::background::Priority;
use crate::images::board::Board;
use crate::images::ingest::{Intake, announced, image_name, refusal_of};
use crate::images::library::{FolderFault, Library};
use crate::images::partial::Partial;
use crate::images::uploads::Slots;
use crate::ledger::{Ledger, Recorded, SubmitError};

pub use crate::images::library::Damage;
pub use crate::images::mapped::{Mapped, Mappings, stream};
pub use crate::images::uploads::Upload;

/// Chunks of an upload that wait for the disk; the network waits when there are more.
const CHUNKS: usize = 8;
const FILE_CHUNK: usize = 1 << 20;
/// Bytes between two looks at the free space of the disk.
const LOOK_EVERY: usize = 16 << 20;
/// The name under which this room keeps its place in the journal.
const SINK: &str = "images";
/// Events that may be read again after a crash.
const UNSAVED: u64 = 256;

/// What the configuration says to this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Forms that modules take faster are made and served.
    pub transcode: bool,
    /// What those may take of the disk.
    pub cache_bytes: u64,
    /// How often each file is read again.
    pub rehash: Option<Duration>,
    /// Bytes of the disk that no image takes: the ledger must be able to write.
    pub reserve_bytes: u64,
    /// After how much silence an upload that can be resumed is given up.
    pub upload_expiry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            transcode: true,
            cache_bytes: 20 << 30,
            rehash: Some(Duration::from_secs(7 * 24 * 3600)),
            reserve_bytes: 256 << 20,
            upload_expiry: Duration::from_secs(24 * 3600),
        }
    }
}

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Images {
    library: Library,
    ledger: Ledger,
    settings: Settings,
    /// Held while a file and the ledger are brought to say the same: an image that is deleted and taken in again at
    /// the same time must not lose its new file. A std mutex, because only blocking threads take it.
    door: Arc<Mutex<()>>,
    board: Board,
    mappings: Mappings,
    slots: Slots,
    /// There is something new to do.
    wake: Arc<Notify>,
    chore: Arc<Notify>,
    /// Counts up whenever a job may have ended.
    ended: Arc<watch::Sender<u64>>,
    stopping: CancellationToken,
}

/// What comes in from the network.
enum Chunk {
    Bytes(Bytes),
    /// A channel that closes without this is an upload that was cut off.
    End,
}

impl Images {
    pub fn open(data: &Path, settings: Settings, ledger: Ledger) -> Result<Self, Fault> {
        Ok(Self {
            library: Library::open(data, settings.reserve_bytes)?,
            ledger,
            settings,
            door: Arc::default(),
            board: Board::default(),
            mappings: Mappings::default(),
            slots: Slots::default(),
            wake: Arc::default(),
            chore: Arc::default(),
            ended: Arc::new(watch::Sender::new(0)),
            stopping: CancellationToken::new(),
        })
    }

    /// Where the file of an image is, if there is one.
    #[cfg(test)]
    pub fn file(&self, id: Digest) -> std::path::PathBuf {
        self.library.file(id)
    }

    /// The file that a plan is carried out with, for whoever gives it out.
    pub async fn served(&self, plan: &Plan) -> std::io::Result<Arc<Mapped>> {
        let path = match plan.transcoded {
            true => self.library.form(plan.image, plan.compression),
            false => self.library.file(plan.image),
        };
        let mappings = self.mappings.clone();
        let opened = tokio::task::spawn_blocking(move || mappings.open(&path));
        opened.await.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))
    }

    /// The file of an image as it was uploaded.
    pub async fn original(&self, id: Digest) -> std::io::Result<Arc<Mapped>> {
        let (mappings, path) = (self.mappings.clone(), self.library.file(id));
        let opened = tokio::task::spawn_blocking(move || mappings.open(&path));
        opened.await.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))
    }

    /// The files that are going out, for the connections.
    pub fn mappings(&self) -> Mappings {
        self.mappings.clone()
    }

    /// Images whose file is gone or has another size: asked at the start.
    pub fn damaged(&self, images: &[Image]) -> Vec<Damage> {
        self.library.damaged(images)
    }

    /// Is there space for an image of this size?
    pub fn expect(&self, bytes: u64) -> Result<(), Refusal> {
        self.library.room_for(bytes).map_err(|error| refusal_of(&error))
    }

    /// How far a job is, or making another form of an image.
    pub fn progress(&self, key: &str) -> Option<Progress> {
        self.board.progress(key)
    }

    /// Takes in an upload and waits until it is proven to be an image.
    #[cfg(test)]
    pub async fn take<X, S, E>(&self, name: &str, expected: X, upload: S) -> Result<Image, Refusal>
    where
        X: FnOnce() -> Result<Option<Digest>, Refusal> + Send + 'static,
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display + Send,
    {
        let job = self.receive(name, expected, upload).await?;
        self.proven(&job).await
    }

    /// Takes in an upload; its job goes on without whoever has sent it. An image that is there already is no error: it
    /// is the same image.
    /// `expected` is asked at the end, because a form may tell the sum behind the file.
    pub async fn receive<X, S, E>(&self, name: &str, expected: X, upload: S) -> Result<Job, Refusal>
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
        let intake =
            background::run("upload", Priority::Low, move || images.bring_in(name, expected, &handle, uploaded(inbox)));
        let (taken, ()) = futures_util::future::join(intake, send(upload, chunks)).await;
        taken?
    }

    /// Takes in a file below the import folder.
    pub async fn take_path(&self, name: &str, relative: &str, expected: Option<Digest>) -> Result<Job, Refusal> {
        let name = image_name(name)?;
        let images = self.clone();
        let relative = relative.to_owned();
        let handle = Handle::current();
        background::run("import", Priority::Low, move || {
            let file = images.library.import(&relative)?;
            let length = file.metadata().map_or(0, |found| found.len());
            images.library.room_for(length).map_err(|error| refusal_of(&error))?;
            images.bring_in(name, move || Ok(expected), &handle, read(file))
        })
        .await?
    }

    /// Waits for the end of a job.
    pub async fn proven(&self, job: &Job) -> Result<Image, Refusal> {
        let mut ended = self.ended.subscribe();
        loop {
            let job = self.ledger.job(job.id.as_str()).await?.ok_or_else(|| Refusal::not_found("job", &job.id))?;
            match (job.state, job.image, job.error) {
                (JobState::Succeeded, Some(image), _) => {
                    return self.ledger.image(image).await?.ok_or_else(|| Refusal::not_found("image", image));
                }
                (JobState::Failed, _, Some(refusal)) => return Err(refusal),
                (JobState::Running, ..) => {}
                _ => return Err(Refusal::new(409, "canceled", format!("job {} was cancelled", job.id))),
            }
            tokio::select! {
                // Cancel-safe: a change that is not seen here is seen by the next question.
                _ = ended.changed() => {}
                () = self.stopping.cancelled() => {
                    let detail = format!("the station stops; it goes on with job {} when it is back", job.id);
                    return Err(Refusal::new(503, "unavailable", detail).retryable());
                }
            }
        }
    }

    /// Does the work of this room until `stop`: open jobs, chores, and the files of deleted images.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        uploads::recover(&self).await.map_err(Fault::Ledger)?;
        let ended = async {
            stop.cancelled().await;
            self.stopping.cancel();
            Ok(())
        };
        tokio::try_join!(self.follow(&stop), jobs::run(&self, &stop), chores::run(&self, &stop), ended)?;
        Ok(())
    }

    /// A follower of the journal, from where it left off.
    async fn follow(&self, stop: &CancellationToken) -> Result<(), Fault> {
        let mut saved = self.ledger.cursor(SINK).await.map_err(Fault::Ledger)?;
        let mut seen = saved;
        let mut journal = self.ledger.follow(saved);
        loop {
            let page = tokio::select! {
                () = stop.cancelled() => break,
                page = journal.next() => page.map_err(Fault::Ledger)?,
            };
            for event in &page {
                self.heard(event).await.map_err(Fault::Ledger)?;
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

    async fn heard(&self, event: &Recorded) -> Result<(), SubmitError> {
        match event.name.as_str() {
            "image.removed" => self.clear_away(event).await?,
            "image.added" => self.chore.notify_one(),
            // It may have begun a job, or cancelled one.
            "command.completed" => self.wake.notify_one(),
            "project.activated" => chores::warm_project(self, &event.subject).await,
            _ => {}
        }
        Ok(())
    }

    async fn save(&self, seq: u64) -> Result<(), SubmitError> {
        let place = Observation::Delivered { sink: SINK.to_owned(), seq };
        self.ledger.submit(Input::Observed(place)).await.map(drop)
    }

    async fn clear_away(&self, removed: &Recorded) -> Result<(), SubmitError> {
        if let Ok(id) = removed.subject.parse::<Digest>() {
            self.remove_unless_known(id).await;
        }
        Ok(())
    }

    /// A file that cannot be removed costs space and nothing else.
    async fn remove_unless_known(&self, id: Digest) {
        let images = self.clone();
        let handle = Handle::current();
        let removed = background::run("remove", Priority::Low, move || {
            let _door = images.door.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been taken in again since.
            let known = handle.block_on(images.ledger.images())?.iter().any(|image| image.id == id);
            let coming = handle.block_on(images.ledger.open_jobs())?.iter().any(|job| job.image == Some(id));
            if !known && !coming {
                images.library.remove(id).map_err(|error| refusal_of(&error))?;
            }
            Ok::<(), Refusal>(())
        });
        if let Ok(Err(error)) | Err(error) = removed.await {
            tracing::warn!(image = %id, %error, "cannot remove the file of an image that is gone");
        }
    }

    /// On a thread of its own: from the first chunk to the word of the ledger.
    fn bring_in<X, I>(&self, name: String, expected: X, handle: &Handle, chunks: I) -> Result<Job, Refusal>
    where
        X: FnOnce() -> Result<Option<Digest>, Refusal>,
        I: Iterator<Item = Result<Bytes, Refusal>>,
    {
        let mut sha256 = None;
        let expected = || expected().inspect(|expected| sha256 = *expected);
        let brought = self.store(&name, expected, chunks, handle);
        brought.inspect_err(|refusal| self.reject(name, sha256, refusal, handle))
    }

    /// Says that something came in which is no image.
    fn reject(&self, name: String, sha256: Option<Digest>, refusal: &Refusal, handle: &Handle) {
        let rejected =
            Observation::ImageRejected { name, code: refusal.code.clone(), detail: refusal.detail.clone(), sha256 };
        if let Err(error) = handle.block_on(self.ledger.submit(Input::Observed(rejected))) {
            tracing::warn!(%error, code = refusal.code, "cannot record that an image was rejected");
        }
    }

    fn store<X, I>(&self, name: &str, expected: X, chunks: I, handle: &Handle) -> Result<Job, Refusal>
    where
        X: FnOnce() -> Result<Option<Digest>, Refusal>,
        I: Iterator<Item = Result<Bytes, Refusal>>,
    {
        let wrong = |error: std::io::Error| refusal_of(&error);
        let mut intake = Intake::new(self.library.part().map_err(wrong)?);
        let mut unlooked = LOOK_EVERY;
        for chunk in chunks {
            let chunk = chunk?;
            unlooked += chunk.len();
            if unlooked >= LOOK_EVERY {
                self.library.room_for(0).map_err(wrong)?;
                unlooked = 0;
            }
            intake.feed(&chunk)?;
        }
        let (part, taken) = intake.finish(expected()?)?;
        let job = self.job(name, minted(Uuid::now_v7()), taken.id, taken.size_bytes);
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        self.library.place(part, taken.id).map_err(wrong)?;
        self.stored(&job, handle)?;
        Ok(job)
    }

    fn job(&self, name: &str, id: CommandId, image: Digest, size_bytes: u64) -> Job {
        Job {
            id,
            kind: "image.upload".to_owned(),
            name: name.to_owned(),
            url: None,
            sha256: None,
            image: Some(image),
            size_bytes: Some(size_bytes),
            state: JobState::Running,
            error: None,
            started_at: self.ledger.now(),
            begun_at: None,
            ended_at: None,
            asked: None,
            replay: None,
        }
    }

    /// Its file is in place: the ledger hears of it, and it is looked at next.
    fn stored(&self, job: &Job, handle: &Handle) -> Result<(), Refusal> {
        handle.block_on(self.ledger.submit(Input::Observed(Observation::ImageStored(Box::new(job.clone())))))?;
        self.wake.notify_one();
        Ok(())
    }

    /// The last byte of a file that came with breaks has come. On a thread of its own.
    fn complete(&self, mut partial: Partial, job: Job, handle: &Handle) -> Result<(), Refusal> {
        let digest = partial.digest();
        if partial.label.offset == 0 {
            return Err(Refusal::new(400, "empty", "the image has no bytes"));
        }
        announced(digest, partial.label.sha256)?;
        let job = Job { image: Some(digest), size_bytes: Some(partial.label.offset), ..job };
        let wrong = |error: std::io::Error| refusal_of(&error);
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        partial.place(&self.library.file(digest), digest).map_err(wrong)?;
        self.stored(&job, handle)?;
        partial.remove().map_err(wrong)
    }
}

fn minted(id: Uuid) -> CommandId {
    id.to_string().parse().expect("a UUID is a command id")
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
    #[error("cannot read in the ledger what there is to do for images")]
    Ledger(#[source] SubmitError),
}

#[cfg(test)]
mod tests;
