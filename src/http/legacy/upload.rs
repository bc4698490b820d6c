//! Uploads with the predecessor's form: the file, and its sum before or behind it. Nothing is held in memory, and that
//! a name is taken is said before the file has come.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request, State};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::core::image::Digest;
use crate::core::job::Job;
use crate::core::refusal::Refusal;
use crate::http::legacy::files::{Eeproms, Images, Kind};
use crate::http::legacy::form::{Wrong, missing, not_a_file, unprocessable};
use crate::http::operator::Operator;
use crate::ledger::Ledger;

const MISMATCH: &str = "SHA256 checksum mismatch";

/// What the form has told of the sum; a text that is none matches no file.
type Sum = Arc<OnceLock<Option<Digest>>>;

fn parts_of(error: &MultipartError) -> Wrong {
    Wrong::new(error.status().as_u16(), format!("There was an error parsing the body: {}", error.body_text()))
}

async fn form(request: Request) -> Result<Multipart, Wrong> {
    let faults = |field: &str| vec![missing("body", field), missing("body", "sha256sum")];
    let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let field = if request.uri().path().starts_with("/image") { Images::FIELD } else { Eeproms::FIELD };
        unprocessable(faults(field))?;
    }
    Multipart::from_request(request, &()).await.map_err(|error| Wrong::new(400, error.body_text()))
}

fn expected(sum: &Sum) -> Result<Option<Digest>, Refusal> {
    match sum.get() {
        Some(Some(sum)) => Ok(Some(*sum)),
        Some(None) => Err(Refusal::new(400, "sha256_mismatch", MISMATCH)),
        None => Err(Refusal::new(422, "sum_missing", "the form has no sha256sum")),
    }
}

fn wrong_sum(refusal: Refusal) -> Wrong {
    match refusal.code.as_str() {
        "sha256_mismatch" => Wrong::new(400, MISMATCH),
        _ => refusal.into(),
    }
}

fn answered(name: &str, id: Digest) -> Json<Value> {
    Json(json!({"filename": name, "sha256sum": id, "message": "File uploaded and verified successfully"}))
}

/// The name of the file, if it can be one and is free.
async fn free<K: Kind>(ledger: &Ledger, field: &Field<'_>) -> Result<String, Wrong> {
    let name = field.file_name().unwrap_or_default().to_owned();
    if name.contains(['/', '\\']) || name.contains(char::is_control) || [".", ".."].contains(&name.as_str()) {
        return Err(Wrong::new(400, format!("'{}' is not the name of a file", name.escape_default())));
    }
    if K::all(ledger).await?.iter().any(|file| file.name == name) {
        // Its word for EEPROM images is written otherwise here than elsewhere.
        let word = if K::FIELD == "image" { "Image" } else { "Eeprom" };
        return Err(Wrong::new(400, format!("{word} '{name}' already exists")));
    }
    Ok(name)
}

pub async fn image(State(operator): State<Operator>, request: Request) -> Result<Json<Value>, Wrong> {
    let form = form(request).await?;
    let sum = Sum::default();
    let (begin, begun) = oneshot::channel::<String>();
    let (chunks, inbox) = mpsc::channel::<Result<Bytes, String>>(1);
    let told = Arc::clone(&sum);
    let intake = async {
        let Ok(name) = begun.await else { return Ok(None) };
        let bytes = unfold(inbox, async |mut inbox| inbox.recv().await.map(|chunk| (chunk, inbox)));
        operator.images.receive(&name, move || expected(&told), bytes).await.map(|job| Some((name, job)))
    };
    let reading = read(&operator.ledger, form, &sum, begin, chunks);
    let (read, taken) = futures_util::future::join(reading, intake).await;
    let mut faults = read?;
    if sum.get().is_none() {
        faults.push(missing("body", "sha256sum"));
    }
    unprocessable(faults)?;
    let taken: Option<(String, Job)> = taken.map_err(wrong_sum)?;
    let (name, job) = taken.ok_or_else(|| Wrong::new(400, "the form has no file"))?;
    let image = operator.images.proven(&job).await?;
    Ok(answered(&name, image.id))
}

/// Reads the form to its end; the file goes on by `chunks`. What is wrong with the form comes back.
async fn read(
    ledger: &Ledger,
    mut form: Multipart,
    sum: &Sum,
    begin: oneshot::Sender<String>,
    chunks: mpsc::Sender<Result<Bytes, String>>,
) -> Result<Vec<Value>, Wrong> {
    let mut begin = Some(begin);
    let mut faults = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(|error| parts_of(&error))? {
        match field.name().unwrap_or_default() {
            "sha256sum" => {
                let text = field.text().await.map_err(|error| parts_of(&error))?;
                sum.get_or_init(|| text.trim().parse().ok());
            }
            "image" if field.file_name().is_none() => {
                faults.push(not_a_file("image", &field.text().await.map_err(|error| parts_of(&error))?));
                begin = None;
            }
            "image" => {
                let name = free::<Images>(ledger, &field).await?;
                let Some(begin) = begin.take() else { continue };
                // The other side may have gone with a refusal: then nothing more is read.
                let _ = begin.send(name);
                if let Err(wrong) = pass_on(&mut field, &chunks).await {
                    // Without this the file would seem to have ended well.
                    let _ = chunks.send(Err("the form broke off".to_owned())).await;
                    return Err(wrong);
                }
            }
            _ => {}
        }
    }
    if begin.is_some() {
        faults.push(missing("body", "image"));
    }
    Ok(faults)
}

/// Until its end, or until the other side wants no more of it.
async fn pass_on(field: &mut Field<'_>, chunks: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), Wrong> {
    while let Some(bytes) = field.chunk().await.map_err(|error| parts_of(&error))? {
        if chunks.send(Ok(bytes)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// At most two MiB, so it is held whole.
pub async fn eeprom(State(operator): State<Operator>, request: Request) -> Result<Json<Value>, Wrong> {
    let mut form = form(request).await?;
    let sum = Sum::default();
    let (mut file, mut faults) = (None, Vec::new());
    while let Some(field) = form.next_field().await.map_err(|error| parts_of(&error))? {
        match field.name().unwrap_or_default() {
            "sha256sum" => {
                let text = field.text().await.map_err(|error| parts_of(&error))?;
                sum.get_or_init(|| text.trim().parse().ok());
            }
            "eeprom" if field.file_name().is_none() => {
                faults.push(not_a_file("eeprom", &field.text().await.map_err(|error| parts_of(&error))?));
            }
            "eeprom" => {
                let name = free::<Eeproms>(&operator.ledger, &field).await?;
                file = Some((name, field.bytes().await.map_err(|error| parts_of(&error))?));
            }
            _ => {}
        }
    }
    if file.is_none() && faults.is_empty() {
        faults.push(missing("body", "eeprom"));
    }
    if sum.get().is_none() {
        faults.push(missing("body", "sha256sum"));
    }
    unprocessable(faults)?;
    let (name, bytes) = file.ok_or_else(|| Wrong::new(400, "the form has no file"))?;
    let sum = expected(&sum).map_err(wrong_sum)?;
    let firmware = operator.firmware.take(&name, sum, Ok(bytes)).await.map_err(wrong_sum)?;
    Ok(answered(&name, firmware.id))
}
