//! EEPROM images on the operator side.

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::firmware::Firmware;
use crate::core::image::Digest;
use crate::core::refusal::Refusal;
use crate::firmware::LARGEST;
use crate::http::error::Failure;
use crate::http::extract::{Asked, Body};
use crate::http::openapi::{Api, Call, Told};
use crate::http::operator::{Operator, order};

/// An image, and what a form has around it.
pub const LARGEST_FORM: usize = LARGEST + (64 << 10);

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    let one = |told: Told| told.of::<Digest>().gives_as::<Firmware>("200", "firmware", "It").refuses(&[400, 404, 409]);
    let taken = |told: Told| {
        told.gives_as::<Firmware>("201", "firmware", "It is in the library")
            .refuses(&[400, 404, 409, 413, 415, 422, 507])
    };
    api.at(
        "/firmware",
        [
            Call::get(list, "list_firmware", "EEPROM images")
                .told(|told| told.gives_as::<Vec<Firmware>>("200", "firmware", "All of them")),
            Call::post(
                upload,
                "upload_firmware",
                "An EEPROM image, as the body or in a form with `firmware`, `sha256`, `name`",
            )
            .told(|told| {
                taken(told.query::<Upload>().takes_bytes(vec!["application/octet-stream", "multipart/form-data"]))
            })
            .routed(|route| route.layer(DefaultBodyLimit::max(LARGEST_FORM))),
        ],
    )
    .at(
        "/firmware/import",
        [Call::post(import, "import_firmware", "A file that lies on the station already, below `import` of its data")
            .told(|told| taken(told.takes::<Import>()))],
    )
    .at(
        "/firmware/{id}",
        [
            Call::get(show, "get_firmware", "One EEPROM image").told(one),
            Call::delete(delete, "delete_firmware", "It goes, if no project names it").told(one),
        ],
    )
    .at(
        "/firmware/{id}/content",
        [Call::get(content, "get_firmware_content", "The file as it was uploaded").told(|told| {
            told.of::<Digest>().gives_bytes("200", "application/octet-stream", "It").refuses(&[400, 404])
        })],
    )
    .at(
        "/firmware/{id}/pieeprom.sig",
        [Call::get(signature, "get_firmware_signature", "What a bootloader that updates itself wants beside it")
            .told(|told| told.of::<Digest>().gives_text("200", "text/plain", "Its sum").refuses(&[400, 404]))],
    )
}

pub async fn list(state: State<Operator>, headers: HeaderMap) -> Response {
    order(state, headers, "firmware.list", json!({})).await
}

pub async fn delete(state: State<Operator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    order(state, headers, "firmware.delete", json!({"firmware": id})).await
}

async fn find(operator: &Operator, id: &str) -> Result<Firmware, Refusal> {
    let id: Digest = id.parse().map_err(|wrong: String| Refusal::invalid("/firmware", wrong))?;
    let known = operator.ledger.firmware().await?;
    known.into_iter().find(|firmware| firmware.id == id).ok_or_else(|| Refusal::not_found("firmware", id))
}

pub async fn show(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({"firmware": find(&operator, &id).await?})))
}

/// `GET /api/v1/firmware/{id}/content`: the file as it was uploaded.
pub async fn content(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Response, Failure> {
    let firmware = find(&operator, &id).await?;
    let bytes = operator.firmware.content(firmware.id).await?;
    let octets = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, octets)], bytes).into_response())
}

/// `GET /api/v1/firmware/{id}/pieeprom.sig`: what a bootloader that updates itself wants beside it.
pub async fn signature(State(operator): State<Operator>, Path(id): Path<String>) -> Result<String, Failure> {
    let firmware = find(&operator, &id).await?;
    Ok(operator.firmware.signature(firmware.id).await?)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    name: Option<String>,
    sha256: Option<String>,
}

/// `POST /api/v1/firmware?name=NAME&sha256=HEX` with the bytes as the body, or a form with `firmware`, `sha256`, `name`.
pub async fn upload(
    State(operator): State<Operator>,
    Asked(mut upload): Asked<Upload>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let image = if kind.starts_with("multipart/form-data") {
        let form =
            Multipart::from_request(request, &()).await.map_err(|error| Refusal::invalid("", error.body_text()))?;
        from_form(form, &mut upload).await?
    } else {
        from_body(request).await
    };
    let name = upload.name.ok_or_else(|| Refusal::invalid("/name", "an upload needs a name"))?;
    let expected = upload.sha256.as_deref().map(|text| digest(text.trim())).transpose()?;
    Ok(added(&operator.firmware.take(&name, expected, image).await?))
}

fn added(firmware: &Firmware) -> Response {
    (StatusCode::CREATED, Json(json!({"firmware": firmware}))).into_response()
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|wrong: String| Refusal::invalid("/sha256", wrong))
}

fn too_large() -> Refusal {
    Refusal::new(413, "too_large", format!("an EEPROM image has at most {LARGEST} bytes"))
}

fn cut(what: impl std::fmt::Display) -> Refusal {
    Refusal::new(400, "upload_cut", format!("the upload broke off: {what}")).retryable()
}

async fn from_body(request: Request) -> Result<Bytes, Refusal> {
    let mut body = request.into_body().into_data_stream();
    let mut image = BytesMut::new();
    while let Some(chunk) = body.next().await {
        image.extend_from_slice(&chunk.map_err(cut)?);
        if image.len() > LARGEST {
            return Err(too_large());
        }
    }
    Ok(image.freeze())
}

/// What is wrong with the form ends the call; what is wrong with the image is the image's rejection.
async fn from_form(mut form: Multipart, upload: &mut Upload) -> Result<Result<Bytes, Refusal>, Refusal> {
    let mut image = None;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "name" => upload.name = Some(field.text().await.map_err(broken)?),
            "sha256" => upload.sha256 = Some(field.text().await.map_err(broken)?),
            "firmware" => {
                let named = field.file_name().map(str::to_owned);
                upload.name = upload.name.take().or(named);
                image = Some(field.bytes().await.map_err(broken));
            }
            other => {
                let detail = "unknown field; there are firmware, sha256 and name";
                return Err(Refusal::invalid(&format!("/{other}"), detail));
            }
        }
        if matches!(image, Some(Err(_))) {
            break;
        }
    }
    image.ok_or_else(|| Refusal::invalid("/firmware", "the form has no field firmware with a file"))
}

fn broken(error: MultipartError) -> Refusal {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE { too_large() } else { cut(error.body_text()) }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    name: Option<String>,
    /// Below the import folder of the data.
    path: String,
    sha256: Option<String>,
}

/// `POST /api/v1/firmware/import`: a file that lies on the station already, below `{data}/import`.
pub async fn import(State(operator): State<Operator>, Body(import): Body<Import>) -> Result<Response, Failure> {
    let expected = import.sha256.as_deref().map(digest).transpose()?;
    let name = import.name.as_deref().unwrap_or_else(|| import.path.rsplit('/').next().unwrap_or_default());
    Ok(added(&operator.firmware.take_path(name, &import.path, expected).await?))
}
