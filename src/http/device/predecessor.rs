//! What scripts of the predecessor call on a device. They show no token, only a serial, so they can end a session badly
//! and never well: an error fails it, and "all done" without a read-back fails it too, because nothing was proven. What
//! they say of a device that has no open session, or from another device's address, is answered and changes nothing;
//! the predecessor's scripts would only repeat it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequest, Multipart, Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::core::device::Serial;
use crate::core::observation::{ConsoleLine, Input, Observation, Report, Reported, Vitals};
use crate::core::session::{Session, StepName};
use crate::http::device::form::tidy;
use crate::http::device::{Device, ipv4};
use crate::http::legacy::files::{Eeproms, Images, Kind, attachment, image};
use crate::http::legacy::form::{Fields, Wrong};

/// More of a log is not kept.
const LONGEST: usize = 2000;
/// The most that is read of one.
pub const LARGEST: usize = 4 << 20;
const MOST_LINES: usize = 20;

/// The open session of whoever calls.
async fn session(device: &Device, peer: SocketAddr, serial: &str) -> Result<Option<Session>, Wrong> {
    let Ok(serial) = serial.parse::<Serial>() else { return Ok(None) };
    let Some(known) = device.ledger.device_by_serial(serial).await? else { return Ok(None) };
    let tenant = ipv4(peer).ok().and_then(|address| device.ledger.tenant(address));
    if tenant.is_some_and(|tenant| tenant.mac != known.mac) {
        tracing::warn!(%peer, %serial, "a device speaks for another one; it is not listened to");
        return Ok(None);
    }
    let Some(id) = known.open_session else { return Ok(None) };
    Ok(device.ledger.session(id).await?.filter(Session::is_open))
}

async fn fail(device: &Device, session: &Session, code: &str, detail: String) -> Result<(), Wrong> {
    let what =
        Reported::StepFailed { step: session.current_step().unwrap_or(StepName::Write), code: code.to_owned(), detail };
    let report = Report { session: session.id, token: session.token.clone(), what, vitals: Vitals::default() };
    device.ledger.submit(Input::Observed(Observation::Reported(report))).await?;
    Ok(())
}

pub async fn all_done(
    State(device): State<Device>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Wrong> {
    let mut fields = Fields::query(query.as_deref());
    let serial = fields.text("serial");
    let [done, temp, verify] = ["alldone", "temp", "verify"].map(|name| fields.optional(name).unwrap_or_default());
    fields.end()?;
    if let Some(session) = session(&device, peer, &serial).await? {
        let detail = "the device says that all is done, and nothing was read back from its medium";
        fail(&device, &session, "legacy.unproven", detail.to_owned()).await?;
    }
    Ok(Json(json!({
        "message": "All done request handled successfully",
        "serial": serial, "alldone": done, "temp": temp, "verify": verify,
    })))
}

pub async fn error(
    State(device): State<Device>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Value>, Wrong> {
    let mut fields = Fields::query(query.as_deref());
    let serial = fields.text("serial");
    let [code, phase] = ["retcode", "phase"].map(|name| fields.optional(name).unwrap_or_default());
    fields.end()?;
    let log = file(request, "log").await;
    if let Some(session) = session(&device, peer, &serial).await? {
        let detail = format!("{phase} ended with {code}: {}", String::from_utf8_lossy(&log));
        fail(&device, &session, "legacy.error", tidy(&detail, LONGEST)).await?;
    }
    Ok(Json(json!({
        "message": "Error log handled successfully",
        "serial": serial, "retcode": code, "phase": phase, "log_path": "",
    })))
}

/// What the EEPROM holds goes into the timeline of the device.
pub async fn eeprom_version(
    State(device): State<Device>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Value>, Wrong> {
    let mut fields = Fields::query(query.as_deref());
    let serial = fields.text("serial");
    fields.end()?;
    let version = String::from_utf8(file(request, "eeprom_version").await)
        .map_err(|_| Wrong::new(400, "The EEPROM version is not UTF-8"))?;
    if let Some(session) = session(&device, peer, &serial).await? {
        let at = device.ledger.now();
        let lines = version.lines().map(|line| tidy(line, 200)).filter(|line| !line.is_empty()).take(MOST_LINES);
        let lines = lines.map(|line| ConsoleLine { at, text: format!("eeprom: {line}") }).collect();
        device.ledger.submit(Input::Observed(Observation::ConsoleText { mac: session.mac, lines })).await?;
    }
    let message = "EEPROM version handled successfully";
    Ok(Json(json!({"message": message, "serial": serial, "file_path": ""})))
}

/// The file of a form, as far as it came: a log that breaks off is better than none.
async fn file(request: Request, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(mut form) = Multipart::from_request(request, &()).await else { return bytes };
    while let Ok(Some(mut field)) = form.next_field().await {
        let wanted = field.name() == Some(name);
        while let Ok(Some(chunk)) = field.chunk().await {
            if wanted && bytes.len() < LONGEST * 4 {
                bytes.extend_from_slice(&chunk);
            }
        }
    }
    bytes
}

fn no_file() -> Wrong {
    Wrong::new(404, "File not found")
}

pub async fn give_image(State(device): State<Device>, Path(name): Path<String>) -> Result<Response, Wrong> {
    let found = Images::find(&device.ledger, &name).await.map_err(|_| no_file())?;
    image(&device.images, &found).await.map_err(|_| no_file())
}

pub async fn give_eeprom(State(device): State<Device>, Path(name): Path<String>) -> Result<Response, Wrong> {
    let found = Eeproms::find(&device.ledger, &name).await.map_err(|_| no_file())?;
    let bytes = device.firmware.content(found.id).await.map_err(|_| no_file())?;
    Ok((attachment(&found.name, bytes.len() as u64), bytes).into_response())
}
