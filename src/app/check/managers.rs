//! Programs that believe the interface is theirs: they would take the station's address away, or ask for another.

use std::fs;
use std::path::Path;

use crate::app::check::finding::Finding;

const SUBJECT: &str = "managers";

/// `run` is /run, where each of them notes what it manages.
pub fn look(run: &Path, sys: &Path, name: &str) -> Vec<Finding> {
    let index = fs::read_to_string(sys.join(name).join("ifindex")).unwrap_or_default();
    let index = index.trim();
    let mut findings = Vec::new();
    let says = |path: String, wanted: &dyn Fn(&str) -> bool| {
        fs::read_to_string(run.join(path)).is_ok_and(|text| text.lines().any(|line| wanted(line.trim())))
    };
    let managed = says(format!("NetworkManager/devices/{index}"), &|line| {
        line.strip_prefix("managed=").is_some_and(|value| matches!(value, "true" | "full" | "assume"))
    });
    if managed {
        findings.push(Finding::warning(
            SUBJECT,
            format!("NetworkManager manages {name}"),
            format!(
                "tell it to leave {name} alone: put conf/networkmanager/90-bootline.conf with this name into /etc/NetworkManager/conf.d and run nmcli general reload"
            ),
        ));
    }
    let configured = says(format!("systemd/netif/links/{index}"), &|line| {
        line.strip_prefix("ADMIN_STATE=").is_some_and(|state| matches!(state, "configured" | "configuring" | "pending"))
    });
    if configured {
        findings.push(Finding::warning(
            SUBJECT,
            format!("systemd-networkd configures {name}"),
            format!("write a .network file for {name} with [Link] Unmanaged=yes, and run networkctl reload"),
        ));
    }
    if run.join(format!("dhcpcd/{name}.pid")).exists() || run.join(format!("dhcpcd-{name}.pid")).exists() {
        findings.push(Finding::warning(
            SUBJECT,
            format!("dhcpcd asks for an address on {name}"),
            format!("add denyinterfaces {name} to /etc/dhcpcd.conf and restart it"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, format!("no network manager claims {name}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::finding::Level;

    #[test]
    fn each_manager_is_found_by_its_notes() {
        let folder = tempfile::tempdir().unwrap();
        let (run, sys) = (folder.path().join("run"), folder.path().join("sys"));
        fs::create_dir_all(sys.join("eth1")).unwrap();
        fs::write(sys.join("eth1/ifindex"), "7\n").unwrap();
        fs::create_dir_all(run.join("NetworkManager/devices")).unwrap();
        fs::create_dir_all(run.join("systemd/netif/links")).unwrap();
        let found =
            || look(&run, &sys, "eth1").iter().map(|finding| finding.what.clone()).collect::<Vec<_>>().join("; ");

        assert!(found().contains("no network manager"), "{}", found());
        fs::write(run.join("NetworkManager/devices/7"), "[device]\nmanaged=false\n").unwrap();
        fs::write(run.join("systemd/netif/links/7"), "ADMIN_STATE=unmanaged\n").unwrap();
        assert_eq!(look(&run, &sys, "eth1")[0].level, Level::Ok, "both leave it alone");
        fs::write(run.join("NetworkManager/devices/7"), "[device]\nmanaged=true\n").unwrap();
        assert!(found().contains("NetworkManager manages eth1"), "{}", found());
        fs::write(run.join("systemd/netif/links/7"), "ADMIN_STATE=configured\n").unwrap();
        assert!(found().contains("systemd-networkd configures eth1"), "{}", found());
    }
}
