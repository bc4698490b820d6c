//! Images and the work on them: what has come in, what is looked at, what may be written, and in which form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::command::{Command, ImageRef, Reply};
use crate::core::event::Event;
use crate::core::floor::{Decision, Fact, Floor, Note};
use crate::core::image::{Compression, Digest, Form, Image, Keeping, Served, ZeroMap};
use crate::core::job::{Asked, ImageAdd, Job, JobState};
use crate::core::observation::Observation;
use crate::core::refusal::Refusal;
use crate::core::shown::{ComingImage, ImageState, ListedImage, ReadyImage};
use crate::core::time::Timestamp;

/// The alarm of images whose file is not what was taken in.
const DAMAGED: &str = "image.damaged";
/// More are refused: each is a connection and a file.
const MOST_JOBS: usize = 64;
const MOST_REJECTED: usize = 64;

/// How far work on an image is; in memory only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = self.done.min(self.total) * 100 / self.total.max(1);
        write!(f, "{percent} % of {} MiB", self.total >> 20)
    }
}

/// The images' part of the floor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shelf {
    pub images: BTreeMap<Digest, Image>,
    pub keeping: BTreeMap<Digest, Keeping>,
    /// The open ones.
    pub jobs: BTreeMap<String, Job>,
    pub progress: BTreeMap<Digest, Progress>,
    /// Files that are no image: the name and the reason. The last ones are enough, for whoever asks has just sent one.
    rejected: BTreeMap<Digest, (String, String)>,
}

impl Shelf {
    /// The job that looks at an image which is not ready.
    fn job_of(&self, image: Digest) -> Option<&Job> {
        self.jobs.values().find(|job| job.image == Some(image) && !self.images.contains_key(&image))
    }

    fn kept(&self, image: Digest) -> Keeping {
        self.keeping.get(&image).cloned().unwrap_or_default()
    }

    pub fn forget(&mut self, image: Digest) {
        self.images.remove(&image);
        self.keeping.remove(&image);
        self.progress.remove(&image);
    }

    pub fn note_job(&mut self, job: &Job) {
        if job.is_open() {
            self.jobs.insert(job.id.to_string(), job.clone());
        } else {
            self.jobs.remove(job.id.as_str());
            if let Some(image) = job.image {
                self.progress.remove(&image);
                self.note_end(image, job);
            }
        }
    }
}

impl Shelf {
    fn note_end(&mut self, image: Digest, job: &Job) {
        match &job.error {
            Some(error) => {
                let why = format!("{} ({})", error.detail, error.code);
                self.rejected.insert(image, (job.name.clone(), why));
                if self.rejected.len() > MOST_REJECTED {
                    self.rejected.pop_first();
                }
            }
            None => {
                self.rejected.remove(&image);
            }
        }
    }

    /// Why there is no such image, where it was here and was none.
    fn rejection(&self, wanted: &ImageRef) -> Option<Refusal> {
        let (name, why) = match wanted {
            ImageRef::Id(id) => self.rejected.get(id)?,
            ImageRef::Name(wanted) => self.rejected.values().find(|(name, _)| name == wanted)?,
        };
        Some(Refusal::new(409, "image_rejected", format!("image {name:?} was rejected: {why}")))
    }
}

impl Floor {
    /// What the library has seen of its images.
    pub(super) fn shelf_observed(&self, observation: &Observation, now: Timestamp) -> Result<Decision, Refusal> {
        match observation {
            Observation::ImageStored(job) => Ok(self.image_stored(job, now)),
            Observation::ImageIngested(image) => Ok(self.image_ingested(image, now)),
            Observation::ImageProgress { image, done, total } => {
                Ok(Decision::noted(vec![Note::Progress { image: *image, done: *done, total: *total }.into()]))
            }
            Observation::ImageChecked { image, damage } => {
                Ok(Decision::noted(self.image_checked(*image, damage.as_deref(), now)))
            }
            Observation::ZerosFound { image, zeros } => Ok(self.zeros_found(*image, zeros)),
            Observation::FormMade { image, form } => Ok(self.form_made(*image, form)),
            Observation::FormDropped { image } => self.form_dropped(*image),
            Observation::ImageRejected { name, code, detail, sha256 } => Ok(Decision::noted(vec![
                Event::ImageRejected {
                    name: name.clone(),
                    code: code.clone(),
                    detail: detail.clone(),
                    sha256: *sha256,
                }
                .into(),
            ])),
            _ => Ok(Decision::noted(Vec::new())),
        }
    }

    /// Its file is here in whole. An image that is known is proven already: it was here before, or is back.
    pub(super) fn image_stored(&self, job: &Job, now: Timestamp) -> Decision {
        // Whoever fetched it has it as it was before its turn came.
        let begun_at = job.begun_at.or_else(|| self.shelf.jobs.get(job.id.as_str())?.begun_at);
        let job = &Job { begun_at, ..job.clone() };
        let Some(image) = job.image.filter(|image| self.shelf.images.contains_key(image)) else {
            return Decision::noted(vec![Note::Job(Box::new(job.clone())).into()]);
        };
        let mut facts = self.image_checked(image, None, now);
        facts.extend(self.end_job(job, JobState::Succeeded, None, now));
        Decision::noted(facts)
    }

    /// The row of a job that ends, and the audit of the command that began it.
    pub(super) fn end_job(&self, job: &Job, state: JobState, error: Option<Refusal>, now: Timestamp) -> Vec<Fact> {
        let ended = job.ended(state, error, now);
        let audit = ended.asked.as_ref().zip(ended.reply(&self.settings.station)).map(|(asked, reply)| {
            Fact::from(Event::CommandCompleted {
                command_id: ended.id.to_string(),
                name: ended.kind.clone(),
                actor: json!(asked.actor),
                transport: asked.transport.clone(),
                status: state.as_str().to_owned(),
                code: reply.code,
                correlation_id: asked.correlation_id.clone(),
                error: reply.error.map(|problem| problem.code),
            })
        });
        std::iter::once(Note::Job(Box::new(ended)).into()).chain(audit).collect()
    }

    pub(super) fn job_begun(&self, id: &str, now: Timestamp) -> Decision {
        let waiting = self.shelf.jobs.get(id).filter(|job| job.begun_at.is_none());
        let begun = waiting.map(|job| Note::Job(Box::new(Job { begun_at: Some(now), ..job.clone() })).into());
        Decision::noted(begun.into_iter().collect())
    }

    /// The same image again is the same image.
    pub(super) fn image_ingested(&self, image: &Image, now: Timestamp) -> Decision {
        let mut facts = Vec::new();
        if !self.shelf.images.contains_key(&image.id) {
            facts.push(Event::ImageAdded(image.clone()).into());
            facts.push(self.keep(image.id, Keeping { checked_at: now, ..self.shelf.kept(image.id) }));
        }
        let jobs = self.shelf.jobs.values().filter(|job| job.image == Some(image.id));
        facts.extend(jobs.flat_map(|job| self.end_job(job, JobState::Succeeded, None, now)));
        Decision::noted(facts)
    }

    /// What was fetched or looked at is no image. All that wait for the same file hear it.
    pub(super) fn job_failed(&self, id: &str, refusal: &Refusal, now: Timestamp) -> Decision {
        let Some(job) = self.shelf.jobs.get(id) else { return Decision::noted(Vec::new()) };
        let rejected = Event::ImageRejected {
            name: job.name.clone(),
            code: refusal.code.clone(),
            detail: refusal.detail.clone(),
            sha256: job.image.or(job.sha256),
        };
        let mut facts = vec![rejected.into()];
        let same = |other: &&Job| other.id == job.id || (job.image.is_some() && other.image == job.image);
        let failed = |job: &Job| self.end_job(job, JobState::Failed, Some(refusal.clone()), now);
        facts.extend(self.shelf.jobs.values().filter(same).flat_map(failed));
        Decision::noted(facts)
    }

    fn keep(&self, image: Digest, keeping: Keeping) -> Fact {
        Note::Kept { image, keeping: Box::new(keeping) }.into()
    }

    /// Its file was read again, or measured.
    pub(super) fn image_checked(&self, image: Digest, damage: Option<&str>, now: Timestamp) -> Vec<Fact> {
        let Some(known) = self.shelf.images.get(&image) else { return Vec::new() };
        let before = self.shelf.kept(image);
        let damage = damage.map(str::to_owned);
        let mut facts = Vec::new();
        let others = self.shelf.keeping.iter().any(|(id, keeping)| *id != image && keeping.damage.is_some());
        match &damage {
            Some(what) => {
                let detail = format!("image {:?} ({image}) cannot be written: {what}; upload it again", known.name);
                facts.extend(self.alarm(DAMAGED, &detail));
            }
            None if !others && self.alarms.contains_key(DAMAGED) => {
                facts.push(Event::AlarmCleared { code: DAMAGED.to_owned() }.into());
            }
            None => {}
        }
        facts.push(self.keep(image, Keeping { damage, checked_at: now, ..before }));
        facts
    }

    pub(super) fn form_made(&self, image: Digest, form: &Form) -> Decision {
        if !self.shelf.images.contains_key(&image) {
            return Decision::noted(Vec::new());
        }
        let keeping = Keeping { form: Some(form.clone()), ..self.shelf.kept(image) };
        Decision::noted(vec![self.keep(image, keeping)])
    }

    /// The served form is needed no more; a running session may still ask for it again.
    pub(super) fn form_dropped(&self, image: Digest) -> Result<Decision, Refusal> {
        let served = |session: &&crate::core::session::Session| {
            session.is_open() && session.plan.image == image && session.plan.transcoded
        };
        if let Some(session) = self.sessions.values().find(served) {
            return Err(Refusal::new(409, "in_use", format!("session {} takes it", session.id)));
        }
        if self.shelf.kept(image).form.is_none() {
            return Ok(Decision::noted(Vec::new()));
        }
        Ok(Decision::noted(vec![self.keep(image, Keeping { form: None, ..self.shelf.kept(image) })]))
    }

    pub(super) fn zeros_found(&self, image: Digest, zeros: &ZeroMap) -> Decision {
        Decision::noted(match self.shelf.images.contains_key(&image) {
            true => vec![Note::Zeros { image, zeros: zeros.clone() }.into()],
            false => Vec::new(),
        })
    }

    pub(super) fn add_image(&self, wanted: &ImageAdd, command: &Command, now: Timestamp) -> Result<Job, Refusal> {
        let name = wanted.name.as_deref().unwrap_or_else(|| wanted.url.file_name()).trim();
        if name.is_empty() || name.chars().count() > 200 || name.contains(char::is_control) {
            return Err(Refusal::invalid("/params/name", "an image needs a name of at most 200 plain characters"));
        }
        if self.shelf.jobs.len() >= MOST_JOBS {
            let detail = format!("{MOST_JOBS} images are coming in already");
            return Err(Refusal::new(503, "busy", detail).retryable());
        }
        Ok(Job {
            id: command.id.clone(),
            kind: "image.add".to_owned(),
            name: name.to_owned(),
            url: Some(wanted.url.clone()),
            sha256: wanted.sha256,
            image: None,
            size_bytes: None,
            state: JobState::Running,
            error: None,
            started_at: now,
            begun_at: None,
            ended_at: None,
            asked: Some(Asked::of(command)),
            replay: None,
        })
    }

    /// What begins long work: the reply says that it was accepted, and by which name to ask for it.
    pub(super) fn begin_job(&self, job: Job, command: &Command, now: Timestamp) -> (Vec<Fact>, Reply) {
        let reply = Reply::accepted(command, &self.settings.station, now, json!({"job": job.shown()}));
        (vec![Note::Job(Box::new(job)).into()], reply)
    }

    pub(super) fn cancel_job(&self, id: &str, now: Timestamp) -> Result<(Vec<Fact>, Value), Refusal> {
        let job = self.shelf.jobs.get(id).ok_or_else(|| Refusal::not_found("open job", id))?;
        let shown = json!({"job": job.ended(JobState::Canceled, None, now).shown()});
        Ok((self.end_job(job, JobState::Canceled, None, now), shown))
    }

    /// For a list: the ready ones in full, and those that are being looked at.
    pub(super) fn list_images(&self) -> Value {
        let ready = self
            .shelf
            .images
            .values()
            .map(|image| ListedImage::Ready(Box::new(ready(image, &self.shelf.kept(image.id)))));
        let coming = self.shelf.jobs.values().filter_map(|job| {
            let image = job.image.filter(|image| !self.shelf.images.contains_key(image))?;
            Some(ListedImage::Coming(ComingImage {
                id: image,
                name: job.name.clone(),
                size_bytes: job.size_bytes,
                state: ImageState::Ingesting,
                job: job.id.clone(),
            }))
        });
        json!({"images": ready.chain(coming).collect::<Vec<_>>()})
    }

    /// The image that a project may name: it need not be ready yet.
    pub(super) fn find_image_id(&self, wanted: &ImageRef) -> Result<Digest, Refusal> {
        let coming = || self.shelf.jobs.values().filter(|job| job.image.is_some());
        let found = match wanted {
            ImageRef::Id(id) => coming().find(|job| job.image == Some(*id)),
            ImageRef::Name(name) => coming().find(|job| job.name == *name),
        };
        match self.find_image(wanted) {
            Ok(image) => Ok(image.id),
            Err(missing) if missing.status == 404 => {
                let why = || self.shelf.rejection(wanted).unwrap_or(missing);
                found.and_then(|job| job.image).ok_or_else(why)
            }
            Err(other) => Err(other),
        }
    }

    pub(super) fn knows_image(&self, image: Digest) -> bool {
        self.shelf.images.contains_key(&image) || self.shelf.job_of(image).is_some()
    }

    /// The image of a project, proven and whole, and the form in which it goes out.
    pub(super) fn writable(&self, id: Digest, what: impl std::fmt::Display) -> Result<(&Image, Served), Refusal> {
        let far = |deed: &str, name: &str| {
            let how = self.shelf.progress.get(&id).map_or_else(String::new, |progress| format!(" ({progress})"));
            let detail =
                format!("image {name:?} of {what} is still being {deed}{how}; the module asks again by itself");
            // The curl of the stock initramfs repeats this one status, and waits between.
            Refusal::new(503, "image_not_ready", detail).retryable()
        };
        let Some(image) = self.shelf.images.get(&id) else {
            return Err(match self.shelf.job_of(id) {
                Some(job) => far("checked", &job.name),
                None => self
                    .shelf
                    .rejection(&ImageRef::Id(id))
                    .unwrap_or_else(|| Refusal::new(409, "no_image", format!("the image {id} of {what} is gone"))),
            });
        };
        let keeping = self.shelf.kept(id);
        if let Some(damage) = keeping.damage {
            let detail = format!("image {:?} of {what} is damaged: {damage}; upload it again", image.name);
            return Err(Refusal::new(409, "image_damaged", detail));
        }
        let original = Served { compression: image.compression, size_bytes: image.size_bytes, transcoded: false };
        match keeping.form {
            Some(form) => {
                Ok((image, Served { compression: form.compression, size_bytes: form.size_bytes, transcoded: true }))
            }
            None if image.compression == Compression::Zstd => Err(far("packed anew for the modules", &image.name)),
            None => Ok((image, original)),
        }
    }
}

/// An image that is ready, as people see it.
pub fn shown(image: &Image, keeping: &Keeping) -> Value {
    json!(ready(image, keeping))
}

fn ready(image: &Image, keeping: &Keeping) -> ReadyImage {
    let state = if keeping.damage.is_some() { ImageState::Damaged } else { ImageState::Ready };
    ReadyImage { image: image.clone(), state, kept: keeping.clone() }
}
