//! Images on the operator side: uploads are streamed into the library, which tells the ledger.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::core::image::{Digest, Image};
use crate::core::refusal::Refusal;
use crate::http::error::Failure;
use crate::http::extract::{Asked, Body};
use crate::http::operator::{Operator, order};

pub async fn list(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "image.list", json!({})).await
}

pub async fn show(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let id: Digest = id.parse().map_err(|wrong: String| Refusal::invalid("/image", wrong))?;
    let images = operator.ledger.images().await?;
    let image = images.into_iter().find(|image| image.id == id).ok_or_else(|| Refusal::not_found("image", id))?;
    Ok(Json(json!({"image": image})))
}

pub async fn delete(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "image.delete", json!({"image": id})).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    name: Option<String>,
    sha256: Option<String>,
}

/// `POST /api/v1/images?name=NAME&sha256=HEX` with the bytes as the body, or a form with `image`, `sha256`, `name`.
pub async fn upload(
    State(operator): State<Operator>,
    Asked(upload): Asked<Upload>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    let expected = upload.sha256.as_deref().map(digest).transpose()?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let image = if kind.starts_with("multipart/form-data") {
        let form =
            Multipart::from_request(request, &()).await.map_err(|error| Refusal::invalid("", error.body_text()))?;
        from_form(&operator, form, upload.name, expected).await?
    } else {
        let name = upload.name.ok_or_else(|| Refusal::invalid("/name", "an upload needs a name"))?;
        from_body(&operator, request.into_body(), &name, expected).await?
    };
    Ok(added(&image))
}

fn added(image: &Image) -> Response {
    (StatusCode::CREATED, Json(json!({"image": image}))).into_response()
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|wrong: String| Refusal::invalid("/sha256", wrong))
}

async fn from_body(
    operator: &Operator,
    body: axum::body::Body,
    name: &str,
    expected: Option<Digest>,
) -> Result<Image, Failure> {
    Ok(operator.images.take(name, move || Ok(expected), body.into_data_stream()).await?)
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
) -> Result<Image, Failure> {
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
        operator.images.take(&name, move || sum.get().cloned().transpose(), upload).await
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    name: Option<String>,
    /// Below the import folder of the data.
    path: String,
    sha256: Option<String>,
}

/// `POST /api/v1/images/import`: a file that lies on the station already, below `{data}/import`.
pub async fn import(State(operator): State<Operator>, Body(import): Body<Import>) -> Result<Response, Failure> {
    let expected = import.sha256.as_deref().map(digest).transpose()?;
    let name = import.name.as_deref().unwrap_or_else(|| import.path.rsplit('/').next().unwrap_or_default());
    Ok(added(&operator.images.take_path(name, &import.path, expected).await?))
}
