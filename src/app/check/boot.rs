//! The files that modules boot from, by the same eyes as `bootline bootfiles check`.

use crate::app::check::finding::Finding;
use crate::bootfiles::BootFiles;
use crate::bootfiles::check::{Level, check};
use crate::config::Config;

const SUBJECT: &str = "boot files";

pub fn look(config: &Config) -> Vec<Finding> {
    let folder = &config.tftp.bootfiles;
    let files = BootFiles::new(folder.clone(), config.tftp.devices_http);
    let report = match check(&files, None) {
        Ok(report) => report,
        Err(error) => {
            return vec![Finding::fault(
                SUBJECT,
                format!("{}: {error}", folder.display()),
                "put the boot files there (bootline bootfiles import DIR), or set bootfiles",
            )];
        }
    };
    let mut findings = Vec::new();
    for model in report.models.iter().filter(|model| model.prepared) {
        let worst = model.findings.iter().filter(|finding| finding.level > Level::Note);
        let said: Vec<&str> = worst.map(|finding| finding.text.as_str()).collect();
        let advice = format!("bootline bootfiles check --model {} tells each file", model.model);
        findings.push(match (model.boots, said.is_empty()) {
            (true, true) => Finding::ok(SUBJECT, format!("{} can boot", model.title)),
            (true, false) => {
                Finding::warning(SUBJECT, format!("{} can boot, but {}", model.title, said.join("; ")), advice)
            }
            (false, _) => Finding::fault(SUBJECT, format!("{} cannot boot: {}", model.title, said.join("; ")), advice),
        });
    }
    findings.extend(report.findings.iter().filter(|finding| finding.level > Level::Note).map(|finding| {
        let make = if finding.level == Level::Fault { Finding::fault } else { Finding::warning };
        make(SUBJECT, finding.text.clone(), "bootfiles/README.md tells where each file comes from".to_owned())
    }));
    findings
}
