//! Private brokers and the command-line clients of mosquitto, as child processes that die with their owner.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::LONG;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that dies with the thread that starts it, also when the test itself is killed.
fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// A broker that can be killed and started again on the same port with the same folder.
pub struct Server {
    program: &'static str,
    arguments: Vec<String>,
    /// What it says when it is ready.
    ready: &'static str,
    child: Option<Child>,
    pub port: u16,
}

impl Server {
    /// `extra` are lines of mosquitto.conf.
    pub fn mosquitto(folder: &Path, extra: &str) -> Self {
        let port = free_port();
        let store = folder.join("mosquitto");
        std::fs::create_dir_all(&store).unwrap();
        let file = store.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\npersistence true\n\
             persistence_location {}/\nautosave_on_changes true\nautosave_interval 1\nmax_queued_messages 100000\n{extra}\n",
            store.display()
        );
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["-c".to_owned(), file.display().to_string()];
        Self { program: "mosquitto", arguments, ready: "running", child: None, port }
    }

    /// With this configuration, in which the port is the one that was free.
    pub fn nats(program: &'static str, port: u16, config: &Path) -> Self {
        let arguments = vec!["-c".to_owned(), config.display().to_string()];
        Self { program, arguments, ready: "Server is ready", child: None, port }
    }

    /// With a configuration that is there already.
    pub fn mosquitto_with(file: PathBuf, port: u16) -> Self {
        let arguments = vec!["-c".to_owned(), file.display().to_string()];
        Self { program: "mosquitto", arguments, ready: "running", child: None, port }
    }

    pub async fn start(&mut self) {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut child = mortal(self.program)
            .args(&self.arguments)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv is needed for this test (apt-get install util-linux): {error}"));
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains(self.ready) {
                    return;
                }
            }
            panic!("{} ended before it was ready; is it there (apt-get install {0})?", self.program);
        };
        timeout(LONG, ready).await.unwrap();
        // A full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        self.child = Some(child);
    }

    pub async fn end(&mut self, signal: Signal) {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        kill(pid, signal).unwrap();
        child.wait().await.unwrap();
    }

    pub fn hangup(&self) {
        self.signal(Signal::SIGHUP);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id().unwrap()).unwrap());
        kill(pid, signal).unwrap();
    }
}

/// `mosquitto_sub`, line by line.
pub struct Subscriber {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    /// With `-d`, so that the SUBACK can be awaited: what is published afterwards is seen.
    pub async fn new(port: u16, arguments: &[&str]) -> Self {
        // Into a pipe it would keep the line of the SUBACK to itself until the first message.
        let mut child = mortal("stdbuf")
            .args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port.to_string(), "-V", "5", "-d"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("setpriv is needed for this test (apt-get install util-linux)");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut subscriber = Self { _child: child, lines };
        subscriber.until(|line| line.starts_with("Subscribed")).await;
        subscriber
    }

    /// The next message, as `-F '>..'` printed it, without the sign.
    pub async fn message(&mut self) -> String {
        self.until(|line| line.starts_with('>')).await[1..].to_owned()
    }

    async fn until(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let found = async {
            loop {
                let line = self
                    .lines
                    .next_line()
                    .await
                    .unwrap()
                    .expect("mosquitto_sub ended; is it there (apt-get install mosquitto-clients)?");
                if fits(&line) {
                    return line;
                }
            }
        };
        timeout(LONG, found).await.expect("the message comes in time")
    }
}

/// Runs `mosquitto_pub` or `mosquitto_rr` to its end; gives what it printed.
pub async fn client(program: &str, port: u16, arguments: &[&str]) -> String {
    let run = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LONG, run).await.expect("the client ends in time").unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a body for `-f`.
pub fn file(folder: &Path, name: &str, body: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, body).unwrap();
    path
}
