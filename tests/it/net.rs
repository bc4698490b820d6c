//! A network of the test's own: a network namespace with a bridge, gone when the test ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

pub struct Net {
    holder: Child,
    pid: String,
    /// It has a user namespace as well; without one, root inside is root.
    with_user: bool,
}

impl Net {
    /// None where the system forbids it; with `CI=true` that is a failure.
    pub fn make() -> Option<Self> {
        Self::hold(true)
    }

    /// For what root alone may do, such as block devices. None where the test does not run as root; with `CI=true` that is
    /// a failure.
    pub fn of_root() -> Option<Self> {
        Self::hold(false)
    }

    fn hold(with_user: bool) -> Option<Self> {
        let script = "mount -t sysfs sysfs /sys && ip link set lo up && ip link add br0 address 02:00:00:00:00:fe type bridge && ip link set br0 up && echo $$ && exec cat";
        let user: &[&str] = if with_user { &["--user", "--map-root-user"] } else { &[] };
        let mut holder = Command::new("unshare")
            .args(user)
            .args(["--net", "--mount", "--fork", "--kill-child", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) is installed");
        let mut pid = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        if pid.is_empty() {
            let needed = if with_user { "user namespaces are" } else { "root is" };
            assert!(std::env::var_os("CI").is_none(), "{needed} needed and forbidden here");
            eprintln!("skipped: {needed} forbidden here");
            let _ = holder.wait();
            return None;
        }
        Some(Self { holder, pid: pid.trim().to_owned(), with_user })
    }

    /// A program inside.
    pub fn command(&self, program: &str) -> Command {
        enter(&self.pid, self.with_user, program)
    }

    /// The same for those who outlive the borrow.
    pub fn door(&self) -> impl Fn(&str) -> Command + 'static {
        let (pid, with_user) = (self.pid.clone(), self.with_user);
        move |program| enter(&pid, with_user, program)
    }
}

fn enter(pid: &str, with_user: bool, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--net", "--mount"]);
    if with_user {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["--", program]);
    command
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
