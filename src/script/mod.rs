//! What a module runs: a plan as text for a POSIX shell. Pure.
//!
//! A script is a prologue of assignments, every value of it quoted by one function, followed by shell that is the same
//! for every module (`step/*.sh`): no value is ever pasted into code, and the code is checked as it stands.

mod quote;

use std::net::SocketAddr;

use crate::core::device::Serial;
use crate::core::firmware::FirmwarePlan;
use crate::core::plan::StoragePath;
use crate::core::refusal::Refusal;
use crate::core::script::{FileName, OnFailure, PlannedScript};
use crate::core::session::{Session, StepName};
use crate::script::quote::{assignment, variable};

/// The path of a session on the device side of the station, below which its image and its reports are.
pub const SESSIONS: &str = "/device/v1/sessions";

const PROVISION: &str = concat!(
    include_str!("step/led.sh"),
    include_str!("step/status.sh"),
    include_str!("step/identify.sh"),
    include_str!("step/base.sh"),
    include_str!("step/check.sh"),
    include_str!("step/firmware.sh"),
    include_str!("step/scripts.sh"),
    include_str!("step/data.sh"),
    include_str!("step/write.sh"),
    include_str!("step/verify.sh"),
    include_str!("step/finish.sh"),
);
const REFUSE: &str = concat!(include_str!("step/led.sh"), include_str!("step/refuse.sh"));

/// What all scripts of a station have in common.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where devices reach the station.
    pub server: SocketAddr,
    /// How often a running step says how far it is.
    pub progress_seconds: u16,
}

impl Setting {
    /// `192.168.5.1`, with a port where it is not 80.
    fn authority(&self) -> String {
        let text = self.server.to_string();
        text.strip_suffix(":80").map(str::to_owned).unwrap_or(text)
    }
}

/// The script that carries out the plan of a session. `serial` is what the device calls itself.
pub fn render(setting: &Setting, serial: Serial, session: &Session) -> String {
    let plan = &session.plan;
    let server = setting.authority();
    let base = format!("http://{server}{SESSIONS}/{}", session.id);
    [
        "#!/bin/sh\n".to_owned(),
        assignment("SERIAL", &serial.to_string()),
        assignment("SERVER", &server),
        assignment("STORAGE", plan.storage.as_str()),
        assignment("PART1", &partition(&plan.storage, 1)),
        assignment("PART2", &partition(&plan.storage, 2)),
        assignment("SESSION", &session.id.to_string()),
        assignment("TOKEN", session.token.as_str()),
        assignment("IMAGE_URL", &format!("{base}/image")),
        assignment("SCRIPTS_URL", &format!("{base}/scripts")),
        assignment("REPORT_URL", &format!("{base}/report")),
        assignment("PROGRESS_URL", &format!("{base}/progress")),
        assignment("PROGRESS_SECONDS", &setting.progress_seconds.max(1).to_string()),
        assignment("COMPRESSION", plan.compression.as_str()),
        assignment("RAW_SIZE", &plan.raw_size_bytes.to_string()),
        assignment("RAW_SHA256", &plan.raw_sha256.to_string()),
        firmware(plan.firmware.as_ref(), &base),
        scripts(session),
        assignment("STATUS_LED", &plan.status_led.map(|led| led.gpio.to_string()).unwrap_or_default()),
        assignment("STATUS_ON_SUCCESS", if plan.status_led.is_some_and(|led| led.on_success) { "1" } else { "0" }),
        assignment("REGULAR_FILE", if plan.regular_file { "yes" } else { "no" }),
        PROVISION.to_owned(),
    ]
    .concat()
}

/// All of them empty where the plan has no firmware.
fn firmware(plan: Option<&FirmwarePlan>, base: &str) -> String {
    let text = |value: fn(&FirmwarePlan) -> String| plan.map(value).unwrap_or_default();
    [
        assignment("FIRMWARE_URL", &plan.map(|_| format!("{base}/firmware")).unwrap_or_default()),
        assignment("FIRMWARE_SHA256", &text(|plan| plan.sha256.to_string())),
        assignment("FIRMWARE_SIZE", &text(|plan| plan.size_bytes.to_string())),
        assignment("FIRMWARE_VERSION", &text(|plan| plan.version.clone())),
        assignment("FIRMWARE_BUILT", &text(|plan| plan.built.map(|built| built.to_string()).unwrap_or_default())),
        assignment("FIRMWARE_SPI", &text(|plan| plan.chip.spi_device().to_owned())),
        assignment("FIRMWARE_DOWNGRADE", if plan.is_some_and(|plan| plan.allow_downgrade) { "yes" } else { "no" }),
    ]
    .concat()
}

/// The script for a device that there is nothing to do for: the stock initramfs runs whatever it is sent, so a no must
/// be a script too.
pub fn refuse(refusal: &Refusal) -> String {
    [
        "#!/bin/sh\n".to_owned(),
        assignment("CODE", &refusal.code),
        assignment("REASON", &refusal.detail),
        REFUSE.to_owned(),
    ]
    .concat()
}

/// The kernel's name of a partition: with a `p` between where the disk's name ends in a digit.
fn partition(storage: &StoragePath, number: u8) -> String {
    let separator = if storage.as_str().ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{storage}{separator}{number}")
}

/// What runs before and after, one a line: `ID fail|warn yes|no SECONDS`, all of it words without blanks; what the
/// device is told of itself; and the file that it goes into.
fn scripts(session: &Session) -> String {
    let lines = |planned: &[PlannedScript]| -> String {
        let line = |PlannedScript { script, manner, .. }: &PlannedScript| {
            let on_failure = match manner.on_failure {
                OnFailure::Fail => "fail",
                OnFailure::Warn => "warn",
            };
            let background = if manner.background { "yes" } else { "no" };
            format!("{script} {on_failure} {background} {}\n", manner.timeout_s)
        };
        planned.iter().map(line).collect()
    };
    let plan = &session.plan;
    let data: serde_json::Map<_, _> =
        session.data.all().map(|(name, value)| (name.to_string(), value.into())).collect();
    let names: Vec<&str> = session.data.all().map(|(name, _)| name.as_str()).collect();
    [
        assignment("PREINSTALL", &lines(&plan.scripts.preinstall)),
        assignment("POSTINSTALL", &lines(&plan.scripts.postinstall)),
        assignment("ENDS", if plan.steps().contains(&StepName::Postinstall) { "yes" } else { "no" }),
        assignment("DATA_FILE", plan.data_file.as_ref().map(FileName::as_str).unwrap_or_default()),
        assignment("DATA", &format!("{:#}\n", serde_json::Value::Object(data))),
        assignment("DATA_NAMES", &names.join(" ")),
        session.data.all().map(|(name, value)| variable(name, value)).collect(),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
