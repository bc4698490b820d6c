//! What a script tells of its steps: the fields of a report.

use crate::core::firmware::FirmwareSeen;
use crate::core::observation::{Cache, Evidence, Reported, Vitals};
use crate::core::refusal::Refusal;
use crate::core::script::ScriptRun;
use crate::core::session::StepName;
use crate::http::device::form::{pairs, tidy};

const NAMES: [&str; 13] = [
    "step",
    "state",
    "code",
    "detail",
    "bytes",
    "sha256",
    "cache",
    "version_before",
    "built_before",
    "version_after",
    "skipped",
    "temperature",
    "link",
];
/// These may come more than once.
const REPEATED: [&str; 2] = ["warning", "script"];
const STEPS: [StepName; 5] =
    [StepName::Firmware, StepName::Preinstall, StepName::Write, StepName::Verify, StepName::Postinstall];
const LONGEST_DETAIL: usize = 2000;
const LONGEST_WARNING: usize = 300;
const LONGEST_TEMPERATURE: usize = 16;
const LONGEST_VERSION: usize = 100;
const MOST_WARNINGS: usize = 16;

/// The fields of a form, each at most once but for `warning` and `script`.
struct Fields(Vec<(String, String)>);

pub fn parse(body: &str) -> Result<Reported, Refusal> {
    let fields = Fields::read(body, &NAMES)?;
    match fields.required("state")? {
        "started" => Ok(Reported::StepStarted { step: fields.step()? }),
        "completed" => Ok(Reported::StepCompleted { step: fields.step()?, evidence: fields.evidence()? }),
        "failed" => {
            let detail = tidy(fields.optional("detail").unwrap_or_default(), LONGEST_DETAIL);
            Ok(Reported::StepFailed { step: fields.step()?, code: fields.code()?, detail })
        }
        "finished" => Ok(Reported::Finished),
        other => Err(Refusal::invalid("/state", format!("not started, completed, failed or finished: {other:?}"))),
    }
}

/// What any report may say of the device itself. Never a reason to refuse one.
pub fn vitals(body: &str) -> Vitals {
    let fields = Fields(pairs(body));
    Vitals {
        temperature_after: fields.optional("temperature").map(|text| tidy(text, LONGEST_TEMPERATURE)),
        link_mbps: fields.optional("link").and_then(|text| text.parse().ok()),
    }
}

/// The running step and the bytes that it has behind it.
pub fn parse_progress(body: &str) -> Result<(StepName, u64), Refusal> {
    let fields = Fields::read(body, &["step", "bytes"])?;
    let bytes = fields.bytes()?.ok_or_else(|| Refusal::invalid("/bytes", "how far? bytes is missing"))?;
    Ok((fields.step()?, bytes))
}

impl Fields {
    fn read(body: &str, names: &[&str]) -> Result<Self, Refusal> {
        let fields = pairs(body);
        for (at, (name, _)) in fields.iter().enumerate() {
            let warning = REPEATED.contains(&name.as_str()) && names == NAMES;
            if !warning && !names.contains(&name.as_str()) {
                return Err(Refusal::invalid(&format!("/{}", tidy(name, 64)), "a report has no such field"));
            }
            if !warning && fields[..at].iter().any(|(other, _)| other == name) {
                return Err(Refusal::invalid(&format!("/{name}"), "is there twice"));
            }
        }
        Ok(Self(fields))
    }

    fn optional(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.optional(name).ok_or_else(|| Refusal::invalid(&format!("/{name}"), "is missing"))
    }

    fn step(&self) -> Result<StepName, Refusal> {
        let text = self.required("step")?;
        let step = STEPS.into_iter().find(|step| step.as_str() == text);
        step.ok_or_else(|| Refusal::invalid("/step", format!("there is no step {text:?}")))
    }

    /// A stable word such as `write.download`; it goes into events as it is.
    fn code(&self) -> Result<String, Refusal> {
        let text = self.required("code")?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
        if text.len() <= 64 && text.bytes().all(plain) {
            Ok(text.to_owned())
        } else {
            Err(Refusal::invalid("/code", format!("not a code [a-z0-9_.]{{1,64}}: {text:?}")))
        }
    }

    fn bytes(&self) -> Result<Option<u64>, Refusal> {
        let parsed = self.optional("bytes").map(str::parse).transpose();
        parsed.map_err(|_| Refusal::invalid("/bytes", "is not a number"))
    }

    /// What a firmware step says of the EEPROM, if it says anything.
    fn firmware(&self) -> Result<Option<FirmwareSeen>, Refusal> {
        let version = |name| self.optional(name).map(|text| tidy(text, LONGEST_VERSION));
        let built = self.optional("built_before").map(str::parse).transpose();
        let skipped = match self.optional("skipped") {
            None | Some("no") => false,
            Some("yes") => true,
            Some(other) => return Err(Refusal::invalid("/skipped", format!("not yes or no: {other:?}"))),
        };
        let seen = FirmwareSeen {
            version_before: version("version_before"),
            built_before: built.map_err(|_| Refusal::invalid("/built_before", "is not a number of seconds"))?,
            version_after: version("version_after"),
            skipped,
        };
        Ok((seen != FirmwareSeen::default()).then_some(seen))
    }

    /// `script=ID EXIT SECONDS yes|no`: how each has ended, and whether it was cut off.
    fn scripts(&self) -> Result<Vec<ScriptRun>, Refusal> {
        let read = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            let &[script, exit, seconds, timed_out] = words.as_slice() else { return None };
            Some(ScriptRun {
                script: script.parse().ok()?,
                exit: exit.parse().ok()?,
                duration_s: seconds.parse().ok()?,
                timed_out: match timed_out {
                    "yes" => true,
                    "no" => false,
                    _ => return None,
                },
            })
        };
        let told = self.0.iter().filter(|(name, _)| name == "script").take(MOST_WARNINGS);
        let wrong = |text: &str| Refusal::invalid("/script", format!("not id, exit, seconds and yes or no: {text:?}"));
        told.map(|(_, text)| read(text).ok_or_else(|| wrong(text))).collect()
    }

    fn evidence(&self) -> Result<Evidence, Refusal> {
        let sha256 = self.optional("sha256").map(str::parse).transpose();
        let cache = match self.optional("cache") {
            None => None,
            Some("dropped") => Some(Cache::Dropped),
            Some("direct") => Some(Cache::Direct),
            Some("not_dropped") => Some(Cache::NotDropped),
            Some(other) => {
                return Err(Refusal::invalid("/cache", format!("not dropped, direct or not_dropped: {other:?}")));
            }
        };
        let warnings = self.0.iter().filter(|(name, _)| name == "warning");
        Ok(Evidence {
            bytes: self.bytes()?,
            sha256: sha256.map_err(|wrong: String| Refusal::invalid("/sha256", wrong))?,
            cache,
            firmware: self.firmware()?,
            scripts: self.scripts()?,
            warnings: warnings.take(MOST_WARNINGS).map(|(_, text)| tidy(text, LONGEST_WARNING)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_the_script_are_read() {
        assert_eq!(parse("step=write&state=started").unwrap(), Reported::StepStarted { step: StepName::Write });
        let warnings = vec!["no LED".to_owned(), "no blkdiscard".to_owned()];
        assert_eq!(
            parse("step=write&state=completed&bytes=512&warning=no+LED&warning=no%20blkdiscard").unwrap(),
            Reported::StepCompleted {
                step: StepName::Write,
                evidence: Evidence { bytes: Some(512), warnings, ..Evidence::default() },
            }
        );
        let digest = "ab".repeat(32);
        let evidence = Evidence {
            bytes: Some(512),
            sha256: Some(digest.parse().unwrap()),
            cache: Some(Cache::Dropped),
            ..Evidence::default()
        };
        assert_eq!(
            parse(&format!("step=verify&state=completed&sha256={digest}&bytes=512&cache=dropped")).unwrap(),
            Reported::StepCompleted { step: StepName::Verify, evidence }
        );
        assert_eq!(
            parse("step=write&state=failed&code=write.download&detail=curl%3A+(18)%0Aend").unwrap(),
            Reported::StepFailed {
                step: StepName::Write,
                code: "write.download".to_owned(),
                detail: "curl: (18) end".to_owned(),
            }
        );
        assert_eq!(parse("state=finished").unwrap(), Reported::Finished);
        let last = "state=finished&temperature=51.0'C&link=1000";
        assert_eq!(parse(last).unwrap(), Reported::Finished);
        let after = Vitals { temperature_after: Some("51.0'C".to_owned()), link_mbps: Some(1000) };
        assert_eq!(vitals(last), after);
        assert_eq!(vitals("state=finished&temperature=&link=-1"), Vitals::default());
        assert_eq!(parse_progress("step=verify&bytes=1048576").unwrap(), (StepName::Verify, 1_048_576));
    }

    #[test]
    fn a_firmware_step_tells_the_versions() {
        let report =
            "step=firmware&state=completed&version_before=2023-01-11%208ba17717&built_before=1673458852&skipped=yes";
        let Reported::StepCompleted { evidence, .. } = parse(report).unwrap() else { panic!("not completed") };
        let seen = FirmwareSeen {
            version_before: Some("2023-01-11 8ba17717".to_owned()),
            built_before: Some(1_673_458_852),
            version_after: None,
            skipped: true,
        };
        assert_eq!(evidence.firmware, Some(seen));
    }

    #[test]
    fn a_step_of_scripts_tells_how_each_has_ended() {
        let report = "step=preinstall&state=completed&script=burn-in%200%2012%20no&script=leds+124+300+yes";
        let Reported::StepCompleted { evidence, .. } = parse(report).unwrap() else { panic!("not completed") };
        let run = |id: &str, exit, duration_s, timed_out| ScriptRun {
            script: id.parse().unwrap(),
            exit,
            duration_s,
            timed_out,
        };
        assert_eq!(evidence.scripts, [run("burn-in", 0, 12, false), run("leds", 124, 300, true)]);
    }

    #[test]
    fn what_is_wrong_in_a_report_is_pointed_at() {
        for (body, pointer) in [
            ("", "/state"),
            ("state=done", "/state"),
            ("state=started", "/step"),
            ("state=started&step=dance", "/step"),
            ("state=started&step=write&colour=red", "/colour"),
            ("state=started&state=failed&step=write", "/state"),
            ("state=completed&step=write&bytes=-1", "/bytes"),
            ("state=completed&step=verify&sha256=abc", "/sha256"),
            ("state=completed&step=verify&cache=maybe", "/cache"),
            ("state=completed&step=firmware&built_before=-1", "/built_before"),
            ("state=completed&step=firmware&skipped=1", "/skipped"),
            ("state=completed&step=preinstall&script=a+b", "/script"),
            ("state=failed&step=write", "/code"),
            ("state=failed&step=write&code=a+b", "/code"),
        ] {
            assert_eq!(parse(body).unwrap_err().errors[0].pointer, pointer, "{body}");
        }
        assert_eq!(parse_progress("step=write").unwrap_err().errors[0].pointer, "/bytes");
        assert_eq!(parse_progress("step=write&bytes=1&warning=x").unwrap_err().errors[0].pointer, "/warning");
    }
}
