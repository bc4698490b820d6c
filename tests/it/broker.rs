//! A private mosquitto on a free port in a temporary folder, and a subscriber that keeps what it hears.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{PATIENCE, lines_of};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Mosquitto {
    folder: TempDir,
    pub port: u16,
    child: Option<Child>,
    /// How a program is started beside it: plainly, or from inside a namespace.
    command: Box<dyn Fn(&str) -> Command>,
}

impl Mosquitto {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With one more line of configuration.
    pub fn start_with(line: &str) -> Self {
        Self::set_up(100_000, line, |program| Command::new(program))
    }

    pub fn start_by(command: impl Fn(&str) -> Command + 'static) -> Self {
        Self::set_up(100_000, "", command)
    }

    /// With so many messages at most that wait for one reader; what comes on top is dropped.
    pub fn start_holding(queue: u32) -> Self {
        Self::set_up(queue, "", |program| Command::new(program))
    }

    fn set_up(queue: u32, line: &str, command: impl Fn(&str) -> Command + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        // As root it would become the user mosquitto, who could not write here.
        let user = User::from_uid(getuid()).unwrap().map_or_else(|| "root".to_owned(), |user| user.name);
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nmax_queued_messages {queue}\nuser {user}\n{line}\n",
            folder.path().display()
        );
        fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Self { folder, port, child: None, command: Box::new(command) };
        broker.resume();
        broker
    }

    pub fn resume(&mut self) {
        let config = self.folder.path().join("mosquitto.conf");
        let child =
            (self.command)("mosquitto").arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("mosquitto is installed"));
        let port = self.port.to_string();
        let ping = ["-h", "127.0.0.1", "-p", &port, "-t", "test", "-n"];
        let start = Instant::now();
        while !(self.command)("mosquitto_pub")
            .args(ping)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {
            assert!(start.elapsed() < PATIENCE, "mosquitto does not listen");
            thread::yield_now();
        }
    }

    /// It writes down its sessions first: what `kill -9` of a broker loses is the broker's affair.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// Without a word: the sessions and messages that it has not written down are gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends one message as a person would.
    pub fn publish(&self, topic: &str, message: &str) {
        let port = self.port.to_string();
        let sent = (self.command)("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", "1", "-t", topic, "-m", message])
            .status()
            .expect("mosquitto_pub is installed");
        assert!(sent.success(), "{sent}");
    }

    /// A durable subscriber that is there before anything is sent.
    pub fn subscribe(&self, topic: &str) -> Subscriber {
        let port = self.port.to_string();
        let session =
            ["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-c", "-x", "3600", "-i", "erp", "-q", "1", "-t", topic];
        // The session is made first and kept by the broker: what comes from now on waits for the listener.
        let made =
            (self.command)("mosquitto_sub").args(session).arg("-E").status().expect("mosquitto_sub is installed");
        assert!(made.success(), "the subscription is acknowledged: {made}");
        let mut child = (self.command)("stdbuf")
            .args(["-oL", "mosquitto_sub", "-F", "EVENT %p"])
            .args(session)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("stdbuf is installed");
        let lines = lines_of(child.stdout.take().unwrap());
        Subscriber { child, lines }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    /// The next event.
    pub fn next(&self) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("an event comes");
            // An empty one takes a state away.
            if let Some(body) = line.strip_prefix("EVENT ").filter(|body| !body.is_empty()) {
                return serde_json::from_str(body).unwrap();
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
