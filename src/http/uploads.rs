//! Uploads that can be resumed: tus 1.0.0 (<https://tus.io/protocols/resumable-upload>), its core with creation,
//! expiration and termination. The sum of the whole file goes into `Upload-Metadata` as `sha256`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, middleware};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::http::error::Failure;
use crate::http::openapi::{Api, Call, Told};
use crate::http::operator::Operator;
use crate::images::Upload;

const VERSION: &str = "1.0.0";
/// As `images::survey` has it.
const MAX_SIZE: &str = "1099511627776";
/// A request that brings nothing for so long ends, so that the client can go on with another.
const IDLE: Duration = Duration::from_secs(60);

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");

pub fn routes(api: Api<Operator>) -> Api<Operator> {
    let version = || json!({"type": "string", "const": VERSION});
    let number = || json!({"type": "integer", "minimum": 0});
    let spoken = move |told: Told| told.must("Tus-Resumable", "Version of the protocol", version());
    let layered = |call: Call<Operator>| call.routed(|route| route.layer(middleware::map_response(versioned)));
    api.at(
        "/uploads",
        [
            Call::post(begin, "begin_upload", "A resumable upload (tus 1.0.0)").told(|told| {
                spoken(told)
                    .must("Upload-Length", "Of the file, in bytes", number())
                    .must("Upload-Metadata", "`name` and, if you like, `sha256`, in base64", json!({"type": "string"}))
                    .gives_nothing("201", "`Location` says where it goes on")
                    .refuses(&[400, 409, 412, 413, 507])
            }),
            Call::options(abilities, "upload_abilities", "What of tus is spoken")
                .told(|told| told.gives_nothing("204", "In the headers")),
        ]
        .map(layered),
    )
    .at(
        "/uploads/{id}",
        [
            Call::post(
                overridden,
                "override_upload",
                "PATCH, DELETE or HEAD, for those behind what lets only POST through",
            )
            .told(|told| {
                spoken(told)
                    .must(
                        "X-HTTP-Method-Override",
                        "Which one",
                        json!({"type": "string", "enum": ["PATCH", "DELETE", "HEAD"]}),
                    )
                    .gives_nothing("204", "It is done")
                    .gives_nothing("200", "In the headers")
                    .refuses(&[400, 404, 405, 409, 412, 415])
            }),
            Call::head(stand, "upload_offset", "How much has come")
                .told(|told| spoken(told).gives_nothing("200", "In the headers").refuses(&[404, 412])),
            Call::patch(go_on, "continue_upload", "More of the file").told(|told| {
                spoken(told)
                    .must("Upload-Offset", "Where it goes on", number())
                    .takes_bytes(vec!["application/offset+octet-stream"])
                    .gives_nothing("204", "It is here")
                    .refuses(&[400, 404, 409, 412, 413, 415])
            }),
            Call::delete(give_up, "abandon_upload", "It is given up")
                .told(|told| spoken(told).gives_nothing("204", "It is gone").refuses(&[404, 409, 412])),
            Call::options(abilities, "one_upload_abilities", "What of tus is spoken")
                .told(|told| told.gives_nothing("204", "In the headers")),
            Call::get(show, "get_upload", "How much has come, for people")
                .told(|told| told.gives_as::<Value>("200", "upload", "It").refuses(&[404])),
        ]
        .map(layered),
    )
}

async fn versioned(mut response: Response) -> Response {
    response.headers_mut().insert(RESUMABLE, HeaderValue::from_static(VERSION));
    response
}

async fn abilities() -> Response {
    let headers =
        [("tus-version", VERSION), ("tus-max-size", MAX_SIZE), ("tus-extension", "creation,expiration,termination")];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn spoken(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(&RESUMABLE) {
        Some(version) if version == VERSION => Ok(()),
        _ => Err(Refusal::new(412, "unsupported_version", format!("Tus-Resumable must be {VERSION}"))),
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Refusal> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
    value.ok_or_else(|| Refusal::new(400, "invalid_params", format!("{name}: a number of bytes is needed")))
}

fn parsed(id: &str) -> Result<Uuid, Refusal> {
    id.parse().map_err(|_| Refusal::not_found("upload", format!("{id:?}")))
}

/// `POST /api/v1/uploads` with `Upload-Length` and `Upload-Metadata: name <base64>,sha256 <base64>`.
async fn begin(State(operator): State<Operator>, headers: HeaderMap) -> Result<Response, Failure> {
    spoken(&headers)?;
    let length = number(&headers, &LENGTH)?;
    let text = headers.get("upload-metadata").map(HeaderValue::to_str).transpose();
    let text = text.map_err(|_| metadata("not plain text"))?.unwrap_or_default();
    let name = field(text, &["name", "filename"])?.ok_or_else(|| metadata("a name or a filename is needed"))?;
    let sha256 = field(text, &["sha256"])?.map(|hex| hex.parse().map_err(|wrong: String| metadata(&wrong)));
    let upload = operator.images.begin_upload(&name, length, sha256.transpose()?).await?;
    let place = format!("/api/v1/uploads/{}", upload.id);
    let mut headers = standing(&upload);
    headers.extend([(header::LOCATION, place), (EXPIRES, http_date(upload.expires_at))]);
    Ok((StatusCode::CREATED, told(headers), Body::empty()).into_response())
}

fn metadata(what: &str) -> Refusal {
    Refusal::new(400, "invalid_params", format!("Upload-Metadata: {what}"))
}

/// Of `key base64,key base64`, the first value that one of the keys has.
fn field(text: &str, keys: &[&str]) -> Result<Option<String>, Refusal> {
    let pairs = text.split(',').map(|pair| pair.trim().split_once(' ').unwrap_or_else(|| (pair.trim(), "")));
    let pairs: Vec<(&str, &str)> = pairs.collect();
    let found = keys.iter().find_map(|key| pairs.iter().find(|(name, _)| name == key));
    let decoded = found.map(|(_, value)| base64(value.trim()).and_then(|bytes| String::from_utf8(bytes).ok()));
    match decoded {
        Some(None) => Err(metadata("a value is not text in base64")),
        Some(Some(value)) => Ok(Some(value)),
        None => Ok(None),
    }
}

/// RFC 4648 §4, with its padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

fn standing(upload: &Upload) -> Vec<(HeaderName, String)> {
    vec![(OFFSET, upload.offset.to_string()), (LENGTH, upload.length.to_string())]
}

/// RFC 9110 §5.6.7: `Tue, 24 Nov 2026 08:00:00 GMT`
fn http_date(at: Timestamp) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn told(pairs: Vec<(HeaderName, String)>) -> HeaderMap {
    pairs.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))).collect()
}

async fn stand(
    State(operator): State<Operator>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    spoken(&headers)?;
    let upload = operator.images.upload(parsed(&id)?).await?;
    let cache = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, cache, told(standing(&upload)), Body::empty()).into_response())
}

/// For people, who ask without the headers of the protocol.
async fn show(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Response, Failure> {
    let upload = operator.images.upload(parsed(&id)?).await?;
    let shown = json!({"upload": {
        "id": upload.id, "name": upload.name, "offset": upload.offset, "length": upload.length,
        "expires_at": (!upload.done).then_some(upload.expires_at), "job": upload.done.then_some(upload.id),
    }});
    Ok(Json(shown).into_response())
}

async fn go_on(
    State(operator): State<Operator>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    spoken(&headers)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind != "application/offset+octet-stream" {
        let detail = "Content-Type must be application/offset+octet-stream";
        return Err(Refusal::new(415, "unsupported_media_type", detail).into());
    }
    let offset = number(&headers, &OFFSET)?;
    let body = unfold(request.into_body().into_data_stream(), async |mut body| {
        let chunk: Result<Bytes, String> = match timeout(IDLE, body.next()).await {
            Ok(chunk) => chunk?.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no byte for {} s", IDLE.as_secs())),
        };
        Some((chunk, body))
    });
    let upload = operator.images.append(parsed(&id)?, offset, body).await?;
    let mut headers = standing(&upload);
    if upload.done {
        headers.push((header::LOCATION, format!("/api/v1/jobs/{}", upload.id)));
    } else {
        headers.push((EXPIRES, http_date(upload.expires_at)));
    }
    Ok((StatusCode::NO_CONTENT, told(headers), Body::empty()).into_response())
}

async fn give_up(
    State(operator): State<Operator>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    spoken(&headers)?;
    operator.images.abandon_upload(parsed(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// For clients behind what lets only GET and POST through.
async fn overridden(
    state: State<Operator>,
    path: Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Failure> {
    let method = headers.get("x-http-method-override").and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    match method {
        Some(Method::PATCH) => go_on(state, path, headers, request).await,
        Some(Method::DELETE) => Ok(give_up(state, path, headers).await?.into_response()),
        Some(Method::HEAD) => stand(state, path, headers).await,
        _ => Err(Refusal::new(405, "method_not_allowed", "an upload is gone on with by PATCH").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_as_clients_write_it() {
        let text = "filename Z2F0ZXdheS5pbWcueHo=,filetype YQ,is_private, name w6kgMQ==";
        assert_eq!(field(text, &["name", "filename"]).unwrap().as_deref(), Some("é 1"));
        assert_eq!(field(text, &["filename"]).unwrap().as_deref(), Some("gateway.img.xz"));
        assert_eq!(field(text, &["sha256"]).unwrap(), None);
        assert_eq!(field("name *", &["name"]).unwrap_err().code, "invalid_params");
        assert_eq!(base64("////AAAA").unwrap(), [255, 255, 255, 0, 0, 0]);
    }

    #[test]
    fn a_date_is_written_as_http_wants_it() {
        assert_eq!(http_date(Timestamp::from_millis(1_795_507_200_000)), "Tue, 24 Nov 2026 08:00:00 GMT");
    }
}
