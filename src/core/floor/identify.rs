//! A device that runs its script can be asked to blink: it hears of it in the answer to its next word of progress. One
//! that runs none can only be shown by the power of its port.

use std::time::Duration;

use serde_json::json;

use crate::core::command::{Command, DeviceIdentify};
use crate::core::floor::command::Effect;
use crate::core::floor::{Floor, Note};
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;

const LONGEST: u16 = 300;
/// A script speaks each 2 s while a step runs; one that was not heard for so long will hardly hear.
const HEARD: Duration = Duration::from_secs(20);

impl Floor {
    /// Refused where nobody would blink: better a plain no than an operator who looks for a light.
    pub(super) fn identify(
        &self,
        wanted: &DeviceIdentify,
        command: &Command,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        let (mac, seconds) = (wanted.device, wanted.seconds);
        if seconds > LONGEST {
            return Err(Refusal::invalid("/params/seconds", format!("{seconds} s; at most {LONGEST}")));
        }
        let device = self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        let deaf = |why: String| Refusal::new(409, "not_reachable", format!("device {mac} cannot blink now: {why}"));
        let session = device.open_session.and_then(|id| self.sessions.get(&id)).filter(|session| session.is_open());
        let Some(session) = session else {
            let idle = "it runs no script of this station";
            // Nothing of a port lasts that could be ended.
            let by_port =
                if seconds > 0 { self.identify_by_port(mac, command, now) } else { Err("nothing blinks".to_owned()) };
            return by_port.map_err(|why| deaf(format!("{idle}, and {why}")));
        };
        let Some(step) = session.current_step() else {
            return Err(deaf("its script is between two steps; ask again in a moment".to_owned()).retryable());
        };
        let silence = now.since(session.life.last_sign);
        if silence > HEARD {
            return Err(deaf(format!("it was not heard for {} s", silence.as_secs())).retryable());
        }
        let until = now.plus(Duration::from_secs(seconds.into()));
        let told = json!({
            "device": mac, "by": "led", "session": session.id, "step": step, "seconds": seconds, "until": until
        });
        Ok((vec![Note::Identify { session: session.id, until }.into()], told))
    }
}
