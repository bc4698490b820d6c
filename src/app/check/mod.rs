//! The doctor: looks at what a station needs, says what is wrong and what to do about it, and changes nothing. It may
//! be asked beside a running agent.

mod boot;
mod clock;
mod database;
mod disk;
mod finding;
mod firewall;
mod link;
mod managers;
mod ports;
mod printers;
mod reach;
mod rights;
mod rivals;
mod switches;

use std::path::Path;

use crate::config::Config;

pub use crate::app::check::finding::{Finding, Level};

/// Looks at everything, in the order in which a fault would show.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let sys = Path::new("/sys/class/net");
    let mut findings: Vec<Finding> = config.warnings.iter().map(|warning| as_written(warning)).collect();
    findings.extend(rights::look());
    let (link, there) = link::look(sys, &config.interface);
    findings.extend(link);
    if there {
        findings.extend(link::address(&config.interface, config.server, config.prefix_len));
        findings.extend(managers::look(Path::new("/run"), sys, &config.interface));
        findings.extend(rivals::look(config).await);
    }
    findings.extend(ports::look(config));
    findings.extend(firewall::look(config).await);
    findings.extend(boot::look(config));
    findings.extend(disk::look(&config.data));
    findings.extend(database::look(&config.data.join("bootline.db")));
    findings.extend(clock::look(Path::new("/run"), &jiff::Timestamp::now()));
    let (buses, switches, printers) =
        tokio::join!(reach::look(config), switches::look(&config.switches), printers::look(&config.labels));
    findings.extend(buses);
    findings.extend(switches);
    findings.extend(printers);
    findings
}

/// What runs, but not as it was written.
fn as_written(warning: &str) -> Finding {
    Finding::warning(
        "configuration",
        warning,
        "write it as conf/bootline.yml documents it, or leave it if that is meant",
    )
}
