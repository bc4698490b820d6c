//! What devices call, described for those who simulate one or look at its traffic. The handlers are in `http/device`;
//! a test asks each of these of the built agent.

use schemars::JsonSchema;
use serde_json::json;

use crate::core::device::Serial;
use crate::core::plan::SessionId;
use crate::http::openapi::Told;

const FORM: &str = "application/x-www-form-urlencoded";
const OCTETS: &str = "application/octet-stream";
const SH: &str = "text/plain";

/// The query of the stock initramfs; all but the serial may be missing or empty.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts; `http/device/query.rs` reads it")]
struct ScriptQuery {
    serial: Serial,
    /// Empty: the one that has the calling address.
    mac: Option<String>,
    model: Option<String>,
    /// In sectors of 512 bytes.
    storagesize: Option<u64>,
    /// In KiB.
    memorysize: Option<u64>,
    temp: Option<String>,
    cid: Option<String>,
    csd: Option<String>,
    bootmode: Option<String>,
    /// Three digits, 0 = set.
    inversejumper: Option<String>,
}

/// That a report was taken down.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape counts")]
struct Recorded {
    session: SessionId,
    /// `recorded`
    state: String,
    /// Somebody wants to see the device blink.
    #[serde(skip_serializing_if = "Option::is_none")]
    identify: Option<bool>,
}

fn of_session(id: &'static str, summary: &'static str) -> Told {
    Told::new(id, summary).proven_by(&["session"]).refuses(&[400, 401, 404, 409, 503])
}

fn sessions() -> Vec<(&'static str, &'static str, Told)> {
    vec![
        (
            "/device/v1/sessions/{session}/image",
            "get",
            of_session("device_image", "The image, in a form that the device can decode")
                .header("Range", "One range of bytes", json!({"type": "string"}))
                .gives_bytes("200", OCTETS, "All of it")
                .gives_bytes("206", OCTETS, "A range of it"),
        ),
        (
            "/device/v1/sessions/{session}/firmware",
            "get",
            of_session("device_firmware", "The EEPROM image, with the settings of the project")
                .gives_bytes("200", OCTETS, "The file"),
        ),
        (
            "/device/v1/sessions/{session}/report",
            "post",
            of_session("device_report", "A step begins, is done or has failed; to repeat a report changes nothing")
                .takes_bytes(vec![FORM])
                .gives::<Recorded>("200", "It is taken down"),
        ),
        (
            "/device/v1/sessions/{session}/progress",
            "post",
            of_session("device_progress", "How far the running step is")
                .takes_bytes(vec![FORM])
                .gives::<Recorded>("200", "It is taken down"),
        ),
        (
            "/device/v1/sessions/{session}/scripts/{script}",
            "get",
            of_session("device_site_script", "A script of the site, as it was when the session was planned")
                .gives_text("200", SH, "Its text"),
        ),
        (
            "/device/v1/sessions/{session}/scripts/{script}/output",
            "post",
            of_session("device_script_output", "What a script of the site has printed")
                .takes_bytes(vec![SH])
                .gives::<Recorded>("200", "It is taken down"),
        ),
    ]
}

pub fn calls() -> Vec<(&'static str, &'static str, Told)> {
    let script =
        Told::new("device_script", "The script of this device; or one that says why there is none, with 200 too")
            .query::<ScriptQuery>()
            .gives_text("200", SH, "POSIX sh for the ash of BusyBox, which the device runs whatever it is");
    let file = Told::new("device_boot_file", "A boot file, as TFTP has it").gives_bytes("200", OCTETS, "The file");
    let (script, file) = (script.proven_by(&[]), file.proven_by(&[]));
    let mut calls =
        vec![("/scriptexecute", "get", script.refuses(&[400, 503])), ("/boot/{path}", "get", file.refuses(&[404]))];
    calls.extend(sessions());
    calls
}
