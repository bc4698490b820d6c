//! The programs of the host that a simulated device runs, and what to install where they are missing.

use std::path::Path;

use crate::simulator::room::PATH;

/// One sentence with one `apt-get install` line; nothing if all is there.
pub fn missing() -> Option<String> {
    complaint(&|name| PATH.split(':').any(|folder| Path::new(folder).join(name).is_file()))
}

fn complaint(has: &dyn Fn(&str) -> bool) -> Option<String> {
    let busybox = has("busybox");
    let wanting = |tool: &&Tool| !(has(tool.name) || tool.in_busybox && busybox);
    let tools: Vec<&Tool> = TOOLS.iter().filter(wanting).collect();
    if tools.is_empty() {
        return None;
    }
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    Some(format!(
        "simulated devices need {}, which this system lacks; install with: apt-get install {}",
        names.join(", "),
        packages.join(" ")
    ))
}

struct Tool {
    name: &'static str,
    /// Of Debian.
    package: &'static str,
    /// Its applet will do: that is what a real device has.
    in_busybox: bool,
}

const fn tool(name: &'static str, package: &'static str, in_busybox: bool) -> Tool {
    Tool { name, package, in_busybox }
}

/// What the cage itself and the served script use.
const TOOLS: [Tool; 13] = [
    tool("curl", "curl", false),
    tool("setpriv", "util-linux", false),
    tool("sh", "busybox", true),
    tool("xz", "xz-utils", true),
    tool("dd", "coreutils", true),
    tool("sha256sum", "coreutils", true),
    tool("head", "coreutils", true),
    tool("tail", "coreutils", true),
    tool("wc", "coreutils", true),
    tool("tr", "coreutils", true),
    tool("mktemp", "coreutils", true),
    tool("sed", "sed", true),
    tool("awk", "mawk", true),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_in_one_line_to_install_it() {
        assert_eq!(complaint(&|_| true), None);
        let bare = complaint(&|name| !["curl", "xz", "dd", "wc", "busybox"].contains(&name)).unwrap();
        assert!(
            bare.ends_with(
                "need curl, xz, dd, wc, which this system lacks; install with: apt-get install coreutils curl xz-utils"
            ),
            "{bare}"
        );
        let with_busybox = complaint(&|name| ["busybox", "setpriv"].contains(&name)).unwrap();
        assert!(with_busybox.ends_with("apt-get install curl"), "{with_busybox}");
    }
}
