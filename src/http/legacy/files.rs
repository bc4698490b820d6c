//! Images and EEPROM images by the name of their file. A name is looked up and never a path.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::core::image::Digest;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::http::legacy::form::{Fields, Wrong};
use crate::http::legacy::{command, results, told};
use crate::http::operator::Operator;
use crate::images;
use crate::ledger::{Ledger, SubmitError};

/// One file, whichever of the two kinds.
pub struct Found {
    pub name: String,
    pub id: Digest,
    added_at: Timestamp,
}

/// The words that differ.
pub trait Kind {
    /// Of the parameter, and of our commands.
    const FIELD: &'static str;
    const COMMAND: (&'static str, &'static str);
    /// In sentences.
    const WORD: &'static str;
    /// Of the list.
    const LIST: &'static str;

    /// Oldest first, so that of two with one name the newest counts.
    fn all(ledger: &Ledger) -> impl Future<Output = Result<Vec<Found>, SubmitError>> + Send;

    fn missing(name: &str) -> Wrong {
        Wrong::new(404, format!("{} '{name}' not found", Self::WORD))
    }

    fn find(ledger: &Ledger, name: &str) -> impl Future<Output = Result<Found, Wrong>> + Send {
        async move {
            let found = Self::all(ledger).await?.into_iter().rev().find(|file| file.name == name);
            found.ok_or_else(|| Self::missing(name))
        }
    }
}

pub struct Images;

impl Kind for Images {
    const FIELD: &'static str = "image";
    const COMMAND: (&'static str, &'static str) = ("image.delete", "image");
    const WORD: &'static str = "Image";
    const LIST: &'static str = "images";

    async fn all(ledger: &Ledger) -> Result<Vec<Found>, SubmitError> {
        let images = ledger.images().await?.into_iter();
        Ok(sorted(images.map(|image| Found { name: image.name, id: image.id, added_at: image.added_at }).collect()))
    }
}

pub struct Eeproms;

impl Kind for Eeproms {
    const FIELD: &'static str = "eeprom";
    const COMMAND: (&'static str, &'static str) = ("firmware.delete", "firmware");
    const WORD: &'static str = "EEPROM";
    const LIST: &'static str = "eeproms";

    async fn all(ledger: &Ledger) -> Result<Vec<Found>, SubmitError> {
        let known = ledger.firmware().await?.into_iter();
        Ok(sorted(known.map(|one| Found { name: one.name, id: one.id, added_at: one.added_at }).collect()))
    }
}

fn sorted(mut files: Vec<Found>) -> Vec<Found> {
    files.sort_by_key(|file| file.added_at);
    files
}

pub async fn list<K: Kind>(State(operator): State<Operator>) -> Result<Json<Value>, Wrong> {
    let files = K::all(&operator.ledger).await?.into_iter().map(|file| {
        let upload = results::local(file.added_at, "%Y-%m-%d_%H:%M:%S");
        (file.name, json!({"upload": upload, "sha256sum": file.id}))
    });
    Ok(Json(json!({K::LIST: files.collect::<Map<String, Value>>()})))
}

async fn named<K: Kind>(operator: &Operator, query: Option<&str>) -> Result<Found, Wrong> {
    let mut fields = Fields::query(query);
    let name = fields.text(K::FIELD);
    fields.end()?;
    K::find(&operator.ledger, &name).await
}

pub async fn remove<K: Kind>(
    State(operator): State<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Wrong> {
    let file = named::<K>(&operator, query.as_deref()).await?;
    let (name, param) = K::COMMAND;
    command(&operator, name, json!({param: file.id})).await?;
    Ok(told(format!("{} '{}' deleted successfully", K::WORD, file.name)))
}

pub async fn download_image(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Response, Wrong> {
    let file = named::<Images>(&operator, query.as_deref()).await?;
    image(&operator.images, &file).await.map_err(|_| Images::missing(&file.name))
}

pub async fn download_eeprom(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Response, Wrong> {
    let file = named::<Eeproms>(&operator, query.as_deref()).await?;
    let bytes = operator.firmware.content(file.id).await.map_err(|_| Eeproms::missing(&file.name))?;
    Ok((attachment(&file.name, bytes.len() as u64), bytes).into_response())
}

/// The file as it was uploaded, from the page cache.
pub async fn image(images: &images::Images, file: &Found) -> Result<Response, Refusal> {
    let mapped = images.original(file.id).await.map_err(|_| Refusal::not_found("file of image", file.id))?;
    let size = mapped.len();
    Ok((attachment(&file.name, size), Body::from_stream(images::stream(mapped, 0, size))).into_response())
}

/// RFC 6266, in the form that the predecessor's library writes it.
pub fn attachment(name: &str, size: u64) -> HeaderMap {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-~/".contains(&b);
    let text = match name.bytes().all(plain) {
        true => format!("attachment; filename=\"{name}\""),
        false => {
            let escaped = name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
            format!("attachment; filename*=utf-8''{}", escaped.collect::<String>())
        }
    };
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::try_from(text).expect("printable ASCII")),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
    ])
}
