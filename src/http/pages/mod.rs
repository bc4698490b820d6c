//! The web page: files that are part of the program. They hold nothing secret, so whoever reaches the listener gets
//! them; what they show comes from `/api/v1`, which asks who is calling.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};

use crate::core::refusal::Refusal;
use crate::http::error::Failure;

/// Nothing from elsewhere, nothing inline; a script that got into the page all the same would be able to do nothing.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

struct File {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal)*) => { &[$(File { name: $name, bytes: include_bytes!(concat!("files/", $name)) }),*] };
}

const FILES: &[File] = files! {
    "index.html"
    "icon.svg" "icons.svg"
    "base.css" "forms.css" "line.css" "views.css"
    "app.js" "api.js" "device.js" "dialog.js" "dom.js" "firmware.js" "floor.js" "form.js" "format.js" "history.js"
    "images.js" "labelform.js" "labels.js" "line.js" "live.js" "login.js" "preview.js" "project.js" "projectform.js"
    "projects.js" "rule.js" "rules.js" "scripts.js" "session.js" "sessionlabels.js" "slots.js" "sound.js" "station.js"
    "text.js" "tile.js" "timeline.js" "today.js" "upload.js"
};

/// By its content, so that a new program brings new files.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |file: &File| {
        let digits: String = Sha256::digest(file.bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::try_from(format!("\"{digits}\"")).expect("hex digits and quotes")
    };
    FILES.iter().map(tag).collect()
});

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/page/{name}", get(async |headers: HeaderMap, Path(name): Path<String>| serve(&name, &headers)))
        .route("/favicon.ico", get(async |headers: HeaderMap| serve("icon.svg", &headers)))
}

/// What is at `/`.
pub fn index(headers: &HeaderMap) -> Response {
    serve("index.html", headers)
}

fn serve(name: &str, asked: &HeaderMap) -> Response {
    let Some(at) = FILES.iter().position(|file| file.name == name) else {
        return Failure(Refusal::not_found("page", format!("{name:?}"))).into_response();
    };
    let (file, tag) = (&FILES[at], TAGS[at].clone());
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes()
    });
    let headers = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_TYPE, kind(name)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    match known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, file.bytes).into_response(),
    }
}

fn kind(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "image/svg+xml",
    })
}
