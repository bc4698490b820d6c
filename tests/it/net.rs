//! A network of the test's own: a user and a network namespace with a bridge, gone when the test ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

pub struct Net {
    holder: Child,
    pid: String,
}

impl Net {
    /// None where the system forbids it; with `CI=true` that is a failure.
    pub fn make() -> Option<Self> {
        let script = "mount -t sysfs sysfs /sys && ip link set lo up && ip link add br0 address 02:00:00:00:00:fe type bridge && ip link set br0 up && echo $$ && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--mount", "--fork", "--kill-child", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) is installed");
        let mut pid = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        if pid.is_empty() {
            assert!(std::env::var_os("CI").is_none(), "user namespaces are needed and forbidden here");
            eprintln!("skipped: user namespaces are forbidden here");
            let _ = holder.wait();
            return None;
        }
        Some(Self { holder, pid: pid.trim().to_owned() })
    }

    /// A program inside.
    pub fn command(&self, program: &str) -> Command {
        enter(&self.pid, program)
    }

    /// The same for those who outlive the borrow.
    pub fn door(&self) -> impl Fn(&str) -> Command + 'static {
        let pid = self.pid.clone();
        move |program| enter(&pid, program)
    }
}

fn enter(pid: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--user", "--net", "--mount", "--preserve-credentials", "--", program]);
    command
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
