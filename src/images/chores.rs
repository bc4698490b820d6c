//! What nobody waits for: other forms of images that modules take faster, files that are read again, uploads that are
//! given up. One thing at a time, on threads that step back for everyone else.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flate2::write::GzEncoder;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::core::command::{Envelope, Transport};
use crate::core::form;
use crate::core::image::{Compression, Digest, Form, Image, Keeping};
use crate::core::observation::{Input, Observation};
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::images::background::{self, Priority};
use crate::images::decode::{Meter, Plain, Source};
use crate::images::ingest::refusal_of;
use crate::images::library::{Library, Part};
use crate::images::survey::survey;
use crate::images::{FILE_CHUNK, Fault, Images, jobs, minted};
use crate::ledger::SubmitError;

const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After a start, a file that was read since is not read again at once.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// zlib's own middle: beyond it the file shrinks by a hundredth and takes twice as long.
const GZIP_LEVEL: u32 = 6;

enum Chore {
    Transcode(Image),
    Rehash(Image),
    /// Its form takes space that others need more.
    Drop(Digest),
}

/// What is known only to this life of the process.
#[derive(Default)]
struct Memory {
    /// Images whose gzip form was made and is no better, or was dropped.
    unfit: HashSet<Digest>,
    /// Images whose form could not be made; tried again at the next look.
    failed: HashSet<Digest>,
    /// Images that were read again since the start.
    reread: HashSet<Digest>,
}

pub async fn run(images: &Images, stop: &CancellationToken) -> Result<(), Fault> {
    let mut memory = Memory::default();
    sweep(images).await.map_err(Fault::Ledger)?;
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        images.expire_uploads().await;
        while !stop.is_cancelled()
            && let Some(chore) = next(images, &memory).await.map_err(Fault::Ledger)?
        {
            do_one(images, chore, &mut memory, stop).await;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Cancel-safe, both: what is not seen now is seen at the next look.
            () = images.chore.notified() => {}
            _ = looks.tick() => memory.failed.clear(),
        }
    }
}

/// Forms of the cache and the ledger agree.
async fn sweep(images: &Images) -> Result<(), SubmitError> {
    let kept = images.ledger.keepings().await?;
    for (id, form) in kept.iter().filter_map(|(id, keeping)| Some((*id, keeping.form.as_ref()?))) {
        let size = std::fs::metadata(images.library.form(id, form.compression)).map(|found| found.len());
        if size.ok() != Some(form.size_bytes) {
            drop_form(images, id).await;
        }
    }
    let known = |id: Digest| kept.get(&id).is_some_and(|keeping| keeping.form.is_some());
    for stray in images.library.strays(known).unwrap_or_default() {
        if let Err(error) = std::fs::remove_file(&stray) {
            tracing::warn!(%error, file = %stray.display(), "cannot clear the cache of images");
        }
    }
    Ok(())
}

async fn next(images: &Images, memory: &Memory) -> Result<Option<Chore>, SubmitError> {
    let kept = images.ledger.keepings().await?;
    let all = images.ledger.images().await?;
    let keeping = |image: &Image| kept.get(&image.id).cloned().unwrap_or_default();
    if images.settings.transcode
        && let Some(image) = all.iter().find(|image| {
            let kept = keeping(image);
            kept.form.is_none()
                && kept.damage.is_none()
                && !memory.unfit.contains(&image.id)
                && !memory.failed.contains(&image.id)
                && form::wants_gzip(image).is_some()
        })
    {
        return Ok(Some(Chore::Transcode(image.clone())));
    }
    if let Some(id) = too_much(images, &all, &kept).await? {
        return Ok(Some(Chore::Drop(id)));
    }
    // While a module is written, the disk belongs to it.
    if images.ledger.open_sessions().await? > 0 {
        return Ok(None);
    }
    let now = images.ledger.now();
    let due = |image: &&Image| {
        let age = now.since(keeping(image).checked_at);
        let rehash = images.settings.rehash.is_some_and(|every| age >= every);
        images.settings.rehash.is_some() && (rehash || (!memory.reread.contains(&image.id) && age >= FRESH))
    };
    Ok(all.iter().filter(due).min_by_key(|image| keeping(image).checked_at).cloned().map(Chore::Rehash))
}

/// Where the forms are more than the disk is to hold: the one that was not used for longest. Forms without which an
/// image cannot be written at all stay.
async fn too_much(
    images: &Images,
    all: &[Image],
    kept: &HashMap<Digest, Keeping>,
) -> Result<Option<Digest>, SubmitError> {
    let forms: Vec<(&Image, u64)> =
        all.iter().filter_map(|image| Some((image, kept.get(&image.id)?.form.as_ref()?.size_bytes))).collect();
    if forms.iter().map(|(_, size)| size).sum::<u64>() <= images.settings.cache_bytes {
        return Ok(None);
    }
    let mut oldest: Option<(Timestamp, Digest)> = None;
    for (image, _) in forms.iter().filter(|(image, _)| image.compression != Compression::Zstd) {
        let used = images.ledger.last_used(image.id).await?.max(image.added_at);
        if oldest.is_none_or(|(at, _)| used < at) {
            oldest = Some((used, image.id));
        }
    }
    Ok(oldest.map(|(_, id)| id))
}

async fn do_one(images: &Images, chore: Chore, memory: &mut Memory, stop: &CancellationToken) {
    match chore {
        Chore::Drop(id) => {
            // Not made again in this life: the next look would only drop it once more.
            memory.unfit.insert(id);
            drop_form(images, id).await;
        }
        Chore::Rehash(image) => {
            memory.reread.insert(image.id);
            reread(images, &image, stop).await;
        }
        Chore::Transcode(image) => match transcode(images, &image, stop).await {
            Ok(true) => {}
            Ok(false) => {
                memory.unfit.insert(image.id);
            }
            Err(refusal) if stop.is_cancelled() => tracing::debug!(image = %image.id, %refusal, "stopped"),
            Err(refusal) => {
                tracing::warn!(image = %image.id, %refusal, "cannot pack the image for the modules");
                memory.failed.insert(image.id);
            }
        },
    }
}

async fn drop_form(images: &Images, id: Digest) {
    match images.ledger.submit(Input::Observed(Observation::FormDropped { image: id })).await {
        Ok(_) => {
            if let Err(error) = images.library.remove_form(id, Compression::Gz) {
                tracing::warn!(image = %id, %error, "cannot remove the form of an image");
            }
        }
        Err(error) => tracing::debug!(image = %id, %error, "the form of an image stays"),
    }
}

/// Runs work on an image so that a stop ends it soon.
async fn stoppable<T>(meter: &Meter, stop: &CancellationToken, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = stop.cancelled() => meter.cancelled.store(true, Ordering::Relaxed),
    }
    work.await
}

async fn reread(images: &Images, image: &Image, stop: &CancellationToken) {
    let (path, id) = (images.library.file(image.id), image.id);
    let meter = Arc::new(Meter::default());
    let counted = Arc::clone(&meter);
    let work = background::run("rehash", Priority::Idle, move || {
        let file = BufReader::with_capacity(FILE_CHUNK, File::open(path)?);
        hash(Source::new(file, counted))
    });
    let read = stoppable(&meter, stop, work).await;
    if stop.is_cancelled() {
        return;
    }
    let damage = match read {
        Ok(Ok(digest)) if digest == id => None,
        Ok(Ok(digest)) => Some(format!("its file has the sha256 {digest}")),
        Ok(Err(error)) => Some(format!("its file cannot be read: {error}")),
        Err(_) => return,
    };
    let checked = Observation::ImageChecked { image: id, damage };
    if let Err(error) = images.ledger.submit(Input::Observed(checked)).await {
        tracing::warn!(image = %id, %error, "cannot record what became of an image");
    }
}

/// Without filling the page cache with what nobody asked for.
fn hash(mut file: impl Read) -> std::io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; FILE_CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::new(hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Makes the gzip form of an image, proves it by decoding it again, and has it served. False: it is no better.
async fn transcode(images: &Images, image: &Image, stop: &CancellationToken) -> Result<bool, Refusal> {
    let wanted = form::wants_gzip(image).unwrap_or(0);
    images.library.room_for(wanted).map_err(|error| refusal_of(&error))?;
    let key = image.id.to_string();
    // Packing reads the original, the proof reads what was made.
    let meter = images.board.begin(&key, image.size_bytes.saturating_add(wanted));
    let (library, subject, counted) = (images.library.clone(), image.clone(), Arc::clone(&meter));
    let work = background::run("transcode", Priority::Idle, move || make(&library, &subject, &counted));
    let made = jobs::told(images, image.id, &meter, stoppable(&meter, stop, work)).await;
    images.board.end(&key);
    let Some(form) = made?? else { return Ok(false) };
    images.ledger.submit(Input::Observed(Observation::FormMade { image: image.id, form })).await?;
    // It may have been deleted meanwhile: then nobody knows the form, and it goes too.
    images.remove_unless_known(image.id).await;
    Ok(true)
}

fn make(library: &Library, image: &Image, meter: &Arc<Meter>) -> Result<Option<Form>, Refusal> {
    let wrong = |error: std::io::Error| refusal_of(&error);
    let file = File::open(library.file(image.id)).map_err(wrong)?;
    let source = Source::new(BufReader::with_capacity(FILE_CHUNK, file), Arc::clone(meter));
    let decode = |error: std::io::Error| {
        crate::images::decode::refusal(&error, image.compression, meter.done.load(Ordering::Relaxed))
    };
    let mut plain = Plain::new(source, image.compression).map_err(decode)?;
    let packed = Packed { part: library.part().map_err(wrong)?, hash: Sha256::new(), size: 0 };
    let mut encoder = GzEncoder::new(packed, flate2::Compression::new(GZIP_LEVEL));
    let mut buffer = vec![0; FILE_CHUNK];
    loop {
        match plain.read(&mut buffer).map_err(decode)? {
            0 => break,
            count => encoder.write_all(&buffer[..count]).map_err(wrong)?,
        }
    }
    let Packed { part, hash, size } = encoder.finish().map_err(wrong)?;
    let sha256 = Digest::new(hash.finalize().into());
    if !form::serves_better(image, size) {
        return Ok(None);
    }
    let file = BufReader::with_capacity(FILE_CHUNK, part.reopen().map_err(wrong)?);
    let proof = survey(file, sha256, meter)?;
    if (proof.raw_sha256, proof.raw_size_bytes) != (image.raw_sha256, image.raw_size_bytes) {
        let detail = format!("packed anew, image {} decodes to {}", image.id, proof.raw_sha256);
        return Err(Refusal::new(500, "transcode_mismatch", detail));
    }
    library.place_form(part, image.id, Compression::Gz).map_err(wrong)?;
    Ok(Some(Form { compression: Compression::Gz, size_bytes: size, sha256 }))
}

/// A file that is hashed as it is written.
struct Packed {
    part: Part,
    hash: Sha256,
    size: u64,
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.part.write(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A project was activated: its image is read into memory before the first module asks for it.
pub async fn warm_project(images: &Images, project: &str) {
    let envelope = Envelope {
        name: Some("project.get"),
        id: None,
        minted_id: minted(Uuid::now_v7()),
        transport: Transport::Rest,
        now: images.ledger.now(),
    };
    let body = serde_json::json!({"params": {"project": project}}).to_string();
    let reply = images.ledger.command(body.as_bytes(), &envelope).await;
    let id = reply.result.and_then(|result| result.pointer("/project/image")?.as_str()?.parse::<Digest>().ok());
    let (Some(id), Ok(kept)) = (id, images.ledger.keepings().await) else { return };
    let form = kept.get(&id).and_then(|keeping| keeping.form.as_ref());
    let path = form.map_or_else(|| images.library.file(id), |form| images.library.form(id, form.compression));
    // Nobody waits for it, and nothing hangs on it.
    drop(tokio::spawn(background::run("warm", Priority::Idle, move || warm(&path))));
}

fn warm(path: &std::path::Path) {
    let Ok(mut file) = File::open(path) else { return };
    let (Ok(found), Some(free)) = (file.metadata(), free_memory()) else { return };
    // What does not fit would push itself out again.
    if found.len() < free / 2 {
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        let _ = std::io::copy(&mut Read::take(&mut file, found.len()), &mut std::io::sink());
    }
}

/// What the kernel could give to the page cache, in bytes.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb << 10)
}
