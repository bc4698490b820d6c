//! What `/proc/self/mountinfo` (proc(5)) says, and whether it is a cage.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub at: PathBuf,
    pub kind: String,
    /// Of this mount, not of its file system.
    pub options: Vec<String>,
}

impl Mount {
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }

    /// The flags that a remount must repeat, because a user namespace may not lift them, with "read-only" added.
    pub fn read_only_again(&self) -> MsFlags {
        let mut flags =
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if self.options.iter().any(|option| option == "noexec") {
            flags |= MsFlags::MS_NOEXEC;
        }
        flags
    }
}

/// Reads the whole file; lines that are not understood are kept as mounts of an unknown kind, so that no check misses them.
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Mount {
    let mut fields = line.split(' ').skip(4);
    let at = fields.next().map_or_else(|| PathBuf::from(line), |field| PathBuf::from(unescape(field)));
    let options = fields.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("unknown").to_owned();
    Mount { at, kind, options }
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (byte, part.get(3..)) {
            (Some(byte), Some(rest)) => {
                text.push(char::from(byte));
                text.push_str(rest);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// Is every mount one that a cage has? Gives the first one that is not.
///
/// Ours are memory file systems, `/proc` read-only, the few plain device nodes, and the medium; all else must be a
/// read-only view of the host's programs.
pub fn stranger<'a>(mounts: &'a [Mount], programs: &[PathBuf], nodes: &[&str]) -> Option<&'a Mount> {
    let below = |at: &Path| programs.iter().any(|folder| at.starts_with(folder));
    mounts.iter().find(|mount| {
        let known = match (mount.at.to_str(), mount.kind.as_str()) {
            (Some("/" | "/dev" | "/sys" | "/tmp"), "tmpfs") | (Some(MEDIUM), _) => true,
            (Some("/proc"), "proc") => mount.is_read_only(),
            (Some(at), _) if at.strip_prefix("/dev/").is_some_and(|name| nodes.contains(&name)) => true,
            _ => below(&mount.at) && mount.is_read_only(),
        };
        !known
    })
}

/// Where a CM4 has its eMMC.
pub const MEDIUM: &str = "/dev/mmcblk0";

#[cfg(test)]
mod tests {
    use super::*;

    const CAGED: &str = "\
80 79 0:40 / / rw,nosuid,nodev,relatime - tmpfs tmpfs rw,uid=0
81 80 254:0 /usr /usr ro,nosuid,nodev,relatime - ext4 /dev/vda rw
82 80 0:50 / /proc ro,nosuid,nodev,noexec,relatime - proc proc rw
83 80 0:41 / /dev rw,nosuid,relatime - tmpfs tmpfs rw
84 83 0:6 /null /dev/null rw,relatime - devtmpfs devtmpfs rw
85 83 254:0 /tmp/x/medium.img /dev/mmcblk0 rw,relatime - ext4 /dev/vda rw
";

    fn strange(extra: &str) -> Option<String> {
        let mounts = parse(&format!("{CAGED}{extra}"));
        stranger(&mounts, &[PathBuf::from("/usr")], &["null", "zero"]).map(|mount| mount.at.display().to_string())
    }

    #[test]
    fn a_cage_has_nothing_of_the_host_but_read_only_programs() {
        assert_eq!(strange(""), None);
        for (extra, at) in [
            ("90 80 254:0 / /old rw,relatime - ext4 /dev/vda rw", "/old"),
            ("90 81 254:1 / /usr/local rw,relatime - ext4 /dev/vdb rw", "/usr/local"),
            ("90 80 254:0 /home /home ro,relatime - ext4 /dev/vda rw", "/home"),
            ("90 80 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw", "/dev"),
            ("90 83 0:6 /sda /dev/sda rw,relatime - devtmpfs devtmpfs rw", "/dev/sda"),
            ("90 80 0:51 / /proc rw,relatime - proc proc rw", "/proc"),
            ("90 80 0:22 / /sys rw,relatime - sysfs sysfs rw", "/sys"),
            ("90 80 254:0 /x /usrlocal ro,relatime - ext4 /dev/vda rw", "/usrlocal"),
            ("gibberish", "gibberish"),
        ] {
            assert_eq!(strange(extra).as_deref(), Some(at), "{extra}");
        }
    }

    #[test]
    fn a_path_with_a_space_is_read() {
        let mounts = parse("90 80 254:0 / /mnt/a\\040b\\134c rw,noexec - ext4 /dev/vda rw");
        assert_eq!(mounts[0].at, PathBuf::from("/mnt/a b\\c"));
        assert!(mounts[0].read_only_again().contains(MsFlags::MS_NOEXEC));
    }
}
