//! Images on the operator side: uploads are streamed into the library, which tells the ledger.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::core::command::CommandId;
use crate::core::floor::shown_image;
use crate::core::image::{Digest, Image};
use crate::core::job::{ImageAdd, Job, JobState};
use crate::core::refusal::Refusal;
use crate::core::shown::{JobShown, ListedImage};
use crate::http::error::Failure;
use crate::http::extract::{Asked, Body};
use crate::http::openapi::{Api, Call, Told};
use crate::http::operator::{Operator, order};

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    let job_shown =
        |told: Told| told.of::<CommandId>().gives_as::<JobShown>("200", "job", "As it stands").refuses(&[404]);
    let taken = |told: Told| {
        told.gives_as::<Image>("201", "image", "It is proven to be an image")
            .gives_as::<JobShown>("202", "job", "It is here and is looked at")
            .refuses(&[400, 404, 409, 413, 415, 422, 507])
    };
    api.at(
        "/images",
        [
            Call::get(list, "list_images", "The library")
                .told(|told| told.gives_as::<Vec<ListedImage>>("200", "images", "All of it")),
            // An image is streamed and has a limit of its own; without this a form ends at 2 MB.
            Call::post(upload, "upload_image", "An image, as the body or in a form with `image`, `sha256`, `name`")
                .told(|told| {
                    taken(told.query::<Upload>().takes_bytes(vec!["application/octet-stream", "multipart/form-data"]))
                })
                .routed(|route| route.layer(DefaultBodyLimit::disable())),
        ],
    )
    .at(
        "/images/import",
        [Call::post(import, "import_image", "A file that lies on the station already, below `import` of its data")
            .told(|told| taken(told.takes::<Import>()))],
    )
    .at(
        "/images/fetch",
        [Call::post(fetch, "fetch_image", "A file that the station gets from a URL").told(|told| {
            told.takes::<ImageAdd>()
                .gives_as::<JobShown>("202", "job", "It was begun")
                .refuses(&[400, 409, 413, 415, 422])
        })],
    )
    .at(
        "/images/{id}",
        [
            Call::get(show, "get_image", "One image")
                .told(|told| told.of::<Digest>().gives_as::<Value>("200", "image", "It").refuses(&[400, 404])),
            Call::delete(delete, "delete_image", "It goes, if no project names it").told(|told| {
                told.of::<Digest>().gives_as::<Image>("200", "image", "What was there").refuses(&[400, 404, 409])
            }),
        ],
    )
    .at(
        "/jobs",
        [Call::get(jobs, "list_jobs", "The newest long work")
            .told(|told| told.gives_as::<Vec<JobShown>>("200", "jobs", "The newest first"))],
    )
    .at("/jobs/{id}", [Call::get(job, "get_job", "Long work").told(job_shown)])
    .at(
        "/jobs/{id}/cancel",
        [Call::post(cancel, "cancel_job", "It ends").told(|told| job_shown(told).refuses(&[400, 404, 409]))],
    )
}

/// Jobs that a list shows.
const NEWEST_JOBS: u32 = 100;

pub async fn list(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "image.list", json!({})).await
}

/// Also one that is being looked at, or was found to be none.
pub async fn show(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let id: Digest = id.parse().map_err(|wrong: String| Refusal::invalid("/image", wrong))?;
    let Some(image) = operator.ledger.image(id).await? else {
        let job = operator.ledger.job_of(id).await?.filter(|job| job.state != JobState::Succeeded);
        let job = job.ok_or_else(|| Refusal::not_found("image", id))?;
        return Ok(Json(json!({"image": coming(&operator, &job, id)})));
    };
    let keeping = operator.ledger.keepings().await?.remove(&id).unwrap_or_default();
    let mut shown = shown_image(&image, &keeping);
    shown["zero_map"] = json!(operator.ledger.zero_map(id).await?);
    if let Some(progress) = operator.images.progress(&id.to_string()) {
        shown["transcoding"] = json!({"bytes_done": progress.done, "bytes_total": progress.total});
    }
    Ok(Json(json!({"image": shown})))
}

fn coming(operator: &Operator, job: &Job, id: Digest) -> Value {
    let state = match job.state {
        JobState::Running | JobState::Succeeded => "ingesting",
        JobState::Failed => "rejected",
        JobState::Canceled => "canceled",
    };
    let mut shown = show_job(operator, job);
    shown["job"] = json!(job.id);
    shown["id"] = json!(id);
    shown["state"] = json!(state);
    shown
}

/// A job with how far it is.
fn show_job(operator: &Operator, job: &Job) -> Value {
    let mut shown = job.shown();
    if let Some(progress) = operator.images.progress(job.id.as_str()).filter(|_| job.is_open()) {
        shown["bytes_done"] = json!(progress.done);
        shown["bytes_total"] = json!(progress.total);
    }
    shown
}

pub async fn job(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let job = operator.ledger.job(&id).await?.ok_or_else(|| Refusal::not_found("job", &id))?;
    Ok(Json(json!({"job": show_job(&operator, &job)})))
}

pub async fn jobs(State(operator): State<Operator>) -> Result<Json<Value>, Failure> {
    let jobs = operator.ledger.newest_jobs(NEWEST_JOBS).await?;
    let shown: Vec<Value> = jobs.iter().map(|job| show_job(&operator, job)).collect();
    Ok(Json(json!({"jobs": shown})))
}

pub async fn cancel(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "job.cancel", json!({"job": id})).await
}

/// `POST /api/v1/images/fetch`: `image.add` with the URL of a file.
pub async fn fetch(state: State<Operator>, headers: HeaderMap, Body(params): Body<Map<String, Value>>) -> Response {
    order(state, headers, "image.add", Value::Object(params)).await
}

pub async fn delete(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "image.delete", json!({"image": id})).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    name: Option<String>,
    sha256: Option<String>,
    /// False: answer as soon as the file is here, before it was looked at.
    wait: Option<bool>,
}

/// `POST /api/v1/images?name=NAME&sha256=HEX` with the bytes as the body, or a form with `image`, `sha256`, `name`.
pub async fn upload(
    State(operator): State<Operator>,
    Asked(upload): Asked<Upload>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    let expected = upload.sha256.as_deref().map(digest).transpose()?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    operator.images.expect(length.unwrap_or(0))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let job = if kind.starts_with("multipart/form-data") {
        let form =
            Multipart::from_request(request, &()).await.map_err(|error| Refusal::invalid("", error.body_text()))?;
        from_form(&operator, form, upload.name, expected).await?
    } else {
        let name = upload.name.ok_or_else(|| Refusal::invalid("/name", "an upload needs a name"))?;
        from_body(&operator, request.into_body(), &name, expected).await?
    };
    answer(&operator, &job, &headers, upload.wait).await
}

/// 201 with the image when it is proven, or 202 with its job where the client does not want to wait (RFC 7240).
async fn answer(operator: &Operator, job: &Job, headers: &HeaderMap, wait: Option<bool>) -> Result<Response, Failure> {
    let prefers = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let apart = prefers.flat_map(|value| value.split(',')).any(|one| one.trim() == "respond-async");
    if wait.unwrap_or(!apart) {
        let image = operator.images.proven(job).await?;
        return Ok((StatusCode::CREATED, Json(json!({"image": image}))).into_response());
    }
    let job = operator.ledger.job(job.id.as_str()).await?.unwrap_or_else(|| job.clone());
    let place = format!("/api/v1/jobs/{}", job.id);
    let shown = json!({"job": show_job(operator, &job)});
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(shown)).into_response())
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|wrong: String| Refusal::invalid("/sha256", wrong))
}

async fn from_body(
    operator: &Operator,
    body: axum::body::Body,
    name: &str,
    expected: Option<Digest>,
) -> Result<Job, Failure> {
    Ok(operator.images.receive(name, move || Ok(expected), body.into_data_stream()).await?)
}

/// The sum that a form has told, perhaps behind the file.
type Sum = Arc<OnceLock<Result<Digest, Refusal>>>;
type Chunk = Result<Bytes, String>;

/// The form is read on one side and the image taken in on the other, so that a sum behind the file still counts.
async fn from_form(
    operator: &Operator,
    form: Multipart,
    name: Option<String>,
    expected: Option<Digest>,
) -> Result<Job, Failure> {
    let sum = Sum::default();
    if let Some(expected) = expected {
        sum.get_or_init(|| Ok(expected));
    }
    let (begin, begun) = oneshot::channel();
    let (chunks, inbox) = mpsc::channel::<Chunk>(1);
    let reading = Reading { form, name, sum: Arc::clone(&sum), begin: Some(begin), chunks };
    let intake = async {
        let Ok(name) = begun.await else {
            return Err(Refusal::invalid("/image", "the form has no field image with a file"));
        };
        let upload =
            unfold(inbox, async |mut inbox: mpsc::Receiver<Chunk>| inbox.recv().await.map(|chunk| (chunk, inbox)));
        operator.images.receive(&name, move || sum.get().cloned().transpose(), upload).await
    };
    let (read, taken) = futures_util::future::join(reading.run(), intake).await;
    read?;
    Ok(taken?)
}

struct Reading {
    form: Multipart,
    name: Option<String>,
    sum: Sum,
    begin: Option<oneshot::Sender<String>>,
    chunks: mpsc::Sender<Chunk>,
}

impl Reading {
    async fn run(mut self) -> Result<(), Refusal> {
        let read = self.fields().await;
        if let Err(refusal) = &read {
            // Without this the file would seem to have ended well.
            let _ = self.chunks.send(Err(refusal.detail.clone())).await;
        }
        read
    }

    async fn fields(&mut self) -> Result<(), Refusal> {
        while let Some(mut field) = self.form.next_field().await.map_err(broken)? {
            match field.name().unwrap_or_default() {
                "name" => self.name = Some(field.text().await.map_err(broken)?),
                "sha256" => {
                    let text = field.text().await.map_err(broken)?;
                    self.sum.get_or_init(|| digest(text.trim()));
                }
                "image" => {
                    let named = self.name.take().or_else(|| field.file_name().map(str::to_owned));
                    let named = named.ok_or_else(|| Refusal::invalid("/name", "an upload needs a name"))?;
                    let begin = self.begin.take().ok_or_else(|| Refusal::invalid("/image", "one image an upload"))?;
                    // The other side may have gone with a refusal: then nothing more is read.
                    let _ = begin.send(named);
                    while let Some(chunk) = field.chunk().await.map_err(broken)? {
                        if self.chunks.send(Ok(chunk)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                other => {
                    return Err(Refusal::invalid(
                        &format!("/{other}"),
                        "unknown field; there are image, sha256 and name",
                    ));
                }
            }
        }
        Ok(())
    }
}

fn broken(error: MultipartError) -> Refusal {
    Refusal::new(400, "upload_cut", format!("the form broke off: {}", error.body_text())).retryable()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    name: Option<String>,
    /// Below the import folder of the data.
    path: String,
    sha256: Option<String>,
}

/// `POST /api/v1/images/import`: a file that lies on the station already, below `{data}/import`.
pub async fn import(
    State(operator): State<Operator>,
    headers: HeaderMap,
    Body(import): Body<Import>,
) -> Result<Response, Failure> {
    let expected = import.sha256.as_deref().map(digest).transpose()?;
    let name = import.name.as_deref().unwrap_or_else(|| import.path.rsplit('/').next().unwrap_or_default());
    let job = operator.images.take_path(name, &import.path, expected).await?;
    answer(&operator, &job, &headers, None).await
}
