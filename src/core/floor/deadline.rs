//! What the clock says to sessions: each step has its time, and a device that is gone is told from one that hangs.

use std::time::Duration;

use crate::core::floor::{Deadlines, Fact, Floor, Note};
use crate::core::plan::Plan;
use crate::core::script::PlannedScript;
use crate::core::session::{Running, Session, StepName};
use crate::core::time::Timestamp;

/// Why a session is over.
enum Over {
    /// The device hangs: code and detail.
    Failed(&'static str, String),
    /// It is gone.
    Silent,
}

impl Floor {
    /// Signs of life of a session, and what it is asked while it lives; in memory only.
    pub(super) fn apply_sign(&mut self, note: &Note, at: Timestamp) {
        let (Note::Sign { session }
        | Note::Pulse { session, .. }
        | Note::Identify { session, .. }
        | Note::Flow { session, .. }) = note
        else {
            return;
        };
        let Some(life) = self.sessions.get_mut(session).map(|session| &mut session.life) else { return };
        match note {
            Note::Pulse { bytes, .. } => life.pulse(*bytes, at),
            Note::Flow { bytes, open, .. } => life.flowed(*bytes, *open, at),
            Note::Identify { until, .. } => life.identify_until = *until,
            _ => life.last_sign = at,
        }
    }

    /// The ends of the sessions whose time has passed, in their order.
    pub(super) fn passed_deadlines(&self, now: Timestamp) -> Vec<Fact> {
        let deadlines = &self.settings.deadlines;
        let mut open: Vec<&Session> = self.sessions.values().filter(|session| session.is_open()).collect();
        open.sort_by_key(|session| session.id);
        let end = |session: &Session| {
            Some(match over(session, deadlines, now)? {
                Over::Failed(code, detail) => self.failed(session, None, code, &detail),
                Over::Silent => {
                    let detail = format!("no sign of life for {} s", deadlines.silence.as_secs());
                    self.interrupted(session, "silent", &detail)
                }
            })
        };
        open.into_iter().filter_map(end).collect()
    }
}

fn over(session: &Session, deadlines: &Deadlines, now: Timestamp) -> Option<Over> {
    let life = session.life;
    // An old script, or one that has not told anything since the station was started, may be busy with its medium.
    let may_be_silent = life.open_images > 0 && life.pulse.is_none();
    if now.since(life.last_sign) >= deadlines.silence && !may_be_silent {
        return Some(Over::Silent);
    }
    let Some(Running { step, since }) = session.running else {
        let stalled = life.open_images > 0 && now.since(life.last_byte) >= deadlines.stall;
        return stalled.then(|| stalled_at(deadlines));
    };
    let running = now.since(since);
    match step {
        StepName::Write | StepName::Verify => {
            (now.since(life.last_byte) >= deadlines.stall).then(|| stalled_at(deadlines))
        }
        StepName::Firmware => (running >= deadlines.firmware).then(|| {
            let minutes = deadlines.firmware.as_secs() / 60;
            Over::Failed("firmware.timeout", format!("the EEPROM was not written and read back within {minutes} min"))
        }),
        StepName::Preinstall | StepName::Postinstall => {
            let allowed = scripts_time(&session.plan, step) + deadlines.step;
            (running >= allowed).then(|| {
                let detail = format!("step {} was not done within {} s", step.as_str(), allowed.as_secs());
                Over::Failed("step.timeout", detail)
            })
        }
    }
}

fn stalled_at(deadlines: &Deadlines) -> Over {
    Over::Failed("stalled", format!("no byte was written or read for {} min", deadlines.stall.as_secs() / 60))
}

/// What the scripts of a step may take by their own time-outs, one after the other; those in the background are waited
/// for in the last step.
fn scripts_time(plan: &Plan, step: StepName) -> Duration {
    let scripts = match step {
        StepName::Preinstall => &plan.scripts.preinstall,
        _ => &plan.scripts.postinstall,
    };
    let seconds = |planned: &PlannedScript| u64::from(planned.manner.timeout_s);
    let in_turn: u64 = scripts.iter().filter(|planned| !planned.manner.background).map(seconds).sum();
    let beside = plan.scripts.all().filter(|planned| planned.manner.background).map(seconds).max().unwrap_or(0);
    Duration::from_secs(in_turn + if step == StepName::Postinstall { beside } else { 0 })
}
