//! Open jobs are found in the tables, also after a restart, and done: files are fetched, then looked at. What comes of
//! it is told to the ledger.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::core::image::{Digest, Image};
use crate::core::job::Job;
use crate::core::observation::{Input, Observation};
use crate::core::refusal::Refusal;
use crate::images::background::{self, Priority};
use crate::images::decode::Meter;
use crate::images::ingest::refusal_of;
use crate::images::survey::{Surveyed, survey};
use crate::images::{FILE_CHUNK, Fault, Images, board, fetch};
use crate::ledger::SubmitError;

/// Files that are fetched at the same time. Images are looked at one by one: each has all threads of its decoder.
const FETCHES: usize = 4;
const TELL_EVERY: Duration = Duration::from_secs(1);

struct Running {
    meter: Arc<Meter>,
    ingest: bool,
}

/// Until `stop`: does what is open, whenever there is something new.
pub async fn run(images: &Images, stop: &CancellationToken) -> Result<(), Fault> {
    let mut running: HashMap<String, Running> = HashMap::new();
    let mut tasks: JoinSet<String> = JoinSet::new();
    while !stop.is_cancelled() {
        let open = images.ledger.open_jobs().await.map_err(Fault::Ledger)?;
        for (id, work) in &running {
            if open.iter().all(|job| job.id.as_str() != id) {
                work.meter.cancelled.store(true, Ordering::Relaxed);
            }
        }
        for job in open {
            begin(images, job, &mut running, &mut tasks);
        }
        images.ended.send_modify(|count| *count += 1);
        tokio::select! {
            () = stop.cancelled() => {}
            // Cancel-safe: what is notified meanwhile is kept, and what has ended stays in the set.
            () = images.wake.notified() => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(id) = ended {
                    images.board.end(&id);
                    running.remove(&id);
                }
            }
        }
    }
    running.values().for_each(|work| work.meter.cancelled.store(true, Ordering::Relaxed));
    while tasks.join_next().await.is_some() {}
    Ok(())
}

fn begin(images: &Images, job: Job, running: &mut HashMap<String, Running>, tasks: &mut JoinSet<String>) {
    let ingest = job.image.is_some();
    let busy = running.values().filter(|work| work.ingest == ingest).count();
    if running.contains_key(job.id.as_str()) || busy >= if ingest { 1 } else { FETCHES } {
        return;
    }
    let meter = images.board.begin(job.id.as_str(), job.size_bytes.unwrap_or(0));
    running.insert(job.id.to_string(), Running { meter: Arc::clone(&meter), ingest });
    let images = images.clone();
    tasks.spawn(async move {
        let id = job.id.to_string();
        let work = Box::pin(async {
            match job.image {
                Some(image) => look(&images, &job, image, &meter).await,
                None => fetch::run(&images, &job, &meter).await,
            }
        });
        let done = followed(&images, &job, &meter, work).await;
        if let Err(refusal) = done
            && !meter.cancelled.load(Ordering::Relaxed)
        {
            fail(&images, &job, refusal).await;
        }
        id
    });
}

/// Does the work of a job and tells the ledger when it begins and how far it is.
async fn followed<T>(images: &Images, job: &Job, meter: &Meter, work: impl Future<Output = T>) -> T {
    let tell = async |observation| {
        if let Err(error @ SubmitError::Unavailable(_)) = images.ledger.submit(Input::Observed(observation)).await {
            tracing::debug!(%error, job = %job.id, "where a job is, is told later");
        }
    };
    tell(Observation::JobBegun { job: job.id.clone() }).await;
    let mut work = std::pin::pin!(work);
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            done = &mut work => return done,
            // Cancel-safe: a tick that is lost is told a second later.
            _ = ticks.tick() => {
                let far = board::read(meter);
                tell(Observation::JobProgressed { job: job.id.clone(), done: far.done, total: far.total }).await;
            }
        }
    }
}

async fn fail(images: &Images, job: &Job, refusal: Refusal) {
    let failed = Observation::JobFailed { job: job.id.clone(), refusal };
    if let Err(error) = images.ledger.submit(Input::Observed(failed)).await {
        tracing::warn!(%error, job = %job.id, "cannot record that a job has failed");
    }
    if let Some(image) = job.image {
        images.remove_unless_known(image).await;
    }
}

/// Decodes an image once and tells what is in it.
async fn look(images: &Images, job: &Job, id: Digest, meter: &Arc<Meter>) -> Result<(), Refusal> {
    let path = images.library.file(id);
    let (counted, stopped) = (Arc::clone(meter), Arc::clone(meter));
    let work = background::run("ingest", Priority::Low, move || {
        let file = File::open(&path).map_err(|error| refusal_of(&error))?;
        survey(BufReader::with_capacity(FILE_CHUNK, file), id, &counted)
    });
    let Surveyed { compression, raw_sha256, raw_size_bytes, survey, zeros } = match told(images, id, meter, work).await
    {
        Ok(surveyed) => surveyed?,
        Err(refusal) => return Err(refusal),
    };
    if stopped.cancelled.load(Ordering::Relaxed) {
        images.remove_unless_known(id).await;
        return Ok(());
    }
    let image = Image {
        id,
        name: job.name.clone(),
        size_bytes: job.size_bytes.unwrap_or_default(),
        compression,
        raw_sha256,
        raw_size_bytes,
        survey,
        added_at: images.ledger.now(),
    };
    images.ledger.submit(Input::Observed(Observation::ImageIngested(image))).await?;
    images.ledger.submit(Input::Observed(Observation::ZerosFound { image: id, zeros })).await?;
    Ok(())
}

/// Waits for work on an image and tells the ledger meanwhile how far it is.
pub async fn told<T>(images: &Images, image: Digest, meter: &Meter, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            done = &mut work => return done,
            // Cancel-safe: a tick that is lost is told a second later.
            _ = ticks.tick() => {
                let far = board::read(meter);
                let progress = Observation::ImageProgress { image, done: far.done, total: far.total };
                if let Err(error @ SubmitError::Unavailable(_)) = images.ledger.submit(Input::Observed(progress)).await {
                    tracing::debug!(%error, "progress of an image is told later");
                }
            }
        }
    }
}
