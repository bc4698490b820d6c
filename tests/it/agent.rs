//! The built agent in a temporary folder, on free ports of loopback; it can be killed and started again.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{self, Answer};

/// No step of a test takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct TestAgent {
    pub folder: TempDir,
    pub operators: SocketAddr,
    pub devices: SocketAddr,
    pub tftp: SocketAddr,
    pub mqtt: Option<SocketAddr>,
    child: Option<Child>,
    lines: Receiver<String>,
    /// The binary, perhaps from inside a namespace.
    launch: Box<dyn Fn(&Path) -> Command>,
    /// Overrides of the configuration.
    env: Vec<(String, String)>,
}

/// Runs the binary with a configuration that is expected to be refused: exit code and what it said.
pub fn refused(config: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bootline")).arg("run").arg("--config").arg(config).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Loopback only, no DHCP, free ports; `bus` is a YAML map.
pub fn config(folder: &Path, ports: [u16; 3], bus: &str) -> PathBuf {
    let [operators, devices, tftp] = ports;
    let text = format!(
        "station: {{id: st-test}}\n\
         network:\n  interface: lo\n  address: 127.0.0.1/8\n  dhcp: {{mode: off}}\n  tftp: {{listen: '127.0.0.1:{tftp}'}}\n\
         http: {{operators: '127.0.0.1:{operators}', devices: '127.0.0.1:{devices}'}}\n\
         sessions: {{silence: 5s, max_attempts: 50}}\n\
         bus: {bus}\n\
         data: {0}/data\nbootfiles: {0}/bootfiles\n",
        folder.display()
    );
    let path = folder.join("bootline.yml");
    fs::write(&path, text).unwrap();
    path
}

impl TestAgent {
    pub fn start(bus: &str) -> Self {
        Self::start_with(bus, &[])
    }

    /// With overrides from the environment, such as `BOOTLINE__HTTP__LOOPBACK`.
    pub fn start_with(bus: &str, env: &[(&str, &str)]) -> Self {
        Self::launched(bus, env, |_| Command::new(env!("CARGO_BIN_EXE_bootline")))
    }

    /// Starts it by a command that names the binary.
    pub fn start_by(bus: &str, launch: impl Fn(&Path) -> Command + 'static) -> Self {
        Self::launched(bus, &[], launch)
    }

    fn launched(bus: &str, env: &[(&str, &str)], launch: impl Fn(&Path) -> Command + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bootfiles")).unwrap();
        config(folder.path(), [0; 3], bus);
        let mut agent = Self::begin(folder, env, Box::new(launch));
        agent.await_bound();
        // From now on it comes back where it was.
        config(agent.folder.path(), [agent.operators.port(), agent.devices.port(), agent.tftp.port()], bus);
        agent
    }

    /// With a configuration that lies in the folder.
    pub fn start_in(folder: TempDir) -> Self {
        let mut agent = Self::begin(folder, &[], Box::new(|_| Command::new(env!("CARGO_BIN_EXE_bootline"))));
        agent.await_bound();
        agent
    }

    fn begin(folder: TempDir, env: &[(&str, &str)], launch: Box<dyn Fn(&Path) -> Command>) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut command = launch(folder.path());
        command.envs(env.iter().cloned());
        let (child, lines) = run(command, folder.path());
        let child = Some(child);
        Self { folder, operators: nowhere, devices: nowhere, tftp: nowhere, mqtt: None, child, lines, launch, env }
    }

    /// The binary with another command, for the same station.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
        command.args(arguments).env("BOOTLINE_CONFIG", self.folder.path().join("bootline.yml"));
        command.envs(self.env.iter().cloned()).output().unwrap()
    }

    /// Reads the log until the agent says where it listens and that it is ready.
    fn await_bound(&mut self) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the agent says where it is bound");
            let field = |name: &str| {
                line.split(&format!("{name}=")).nth(1).and_then(|rest| rest.split([' ', ')']).next().map(str::to_owned))
            };
            if line.contains(" bound ") {
                self.operators = field("operators").unwrap().parse().unwrap();
                self.devices = field("devices").unwrap().parse().unwrap();
                self.tftp = field("tftp").unwrap().parse().unwrap();
                self.mqtt = field("mqtt").and_then(|text| text.trim_start_matches("Some(").parse().ok());
            }
            if line.ends_with(" ready") {
                return;
            }
        }
    }

    /// Whether its log has said this since it was asked last.
    pub fn has_said(&self, text: &str) -> bool {
        self.lines.try_iter().any(|line| line.contains(text))
    }

    /// No farewell, as when the power goes.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// With more in its environment.
    pub fn restart_with(&mut self, environment: &[(&str, &str)]) {
        let mut command = (self.launch)(self.folder.path());
        command.envs(self.env.iter().cloned()).envs(environment.iter().copied());
        let (child, lines) = run(command, self.folder.path());
        (self.child, self.lines) = (Some(child), lines);
        self.await_bound();
    }

    /// Waits until it has ended by itself.
    pub fn await_end(&mut self) -> ExitStatus {
        // The pipe of its log closes with it.
        while self.lines.recv_timeout(2 * PATIENCE).is_ok() {}
        self.child.take().expect("it ran").wait().unwrap()
    }

    /// Tells it to stop and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.process()).unwrap()), Signal::SIGTERM).unwrap();
        self.child.take().expect("it runs").wait().unwrap()
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn get(&self, path: &str) -> Answer {
        http::call(self.operators, "GET", path, &[], b"").unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        http::call(self.operators, "POST", path, &[], body.to_string().as_bytes()).unwrap()
    }

    /// Every event so far, in order.
    pub fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, sequence);
            let page = self.get(&format!("/api/v1/events?limit=1000&after={after}")).json();
            let page = page["events"].as_array().unwrap();
            if page.is_empty() {
                return events;
            }
            events.extend(page.iter().cloned());
        }
    }

    /// Takes in an image and returns its id.
    pub fn image(&self, name: &str, bytes: &[u8]) -> String {
        let path = format!("/api/v1/images?name={name}");
        let answer = http::call(self.operators, "POST", &path, &[], bytes).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["image"]["id"].as_str().unwrap().to_owned()
    }

    pub fn project(&self, name: &str, image: &str) {
        let answer = self.post("/api/v1/projects", &json!({"name": name, "image": image, "active": true}));
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// Finishes, and goes on with what it has left in its folder.
    pub fn finish_keeping(self, go_on: impl FnOnce(&Path)) {
        let kept = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder.path()).unwrap().flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), kept.path().join(entry.file_name())).unwrap();
            }
        }
        self.finish();
        go_on(kept.path());
    }

    /// The laws that hold at the end of every test: contiguous sequences, one outcome a session, a stop in order.
    pub fn finish(mut self) {
        let events = self.events();
        for (n, event) in events.iter().enumerate() {
            assert_eq!(sequence(event), n as u64 + 1, "the journal has no gaps");
        }
        let stopped = self.stop();
        assert!(stopped.success(), "{stopped}");
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn sequence(event: &Value) -> u64 {
    event["sequence"].as_str().unwrap().parse().unwrap()
}

/// Starts the agent by a command that names the binary, perhaps from inside a namespace; its log comes as lines.
///
/// Where there is a file `trust.pem`, it trusts whom that names.
pub fn run(mut command: Command, folder: &Path) -> (Child, Receiver<String>) {
    // Tests of the buses are about more than an operator may do.
    if command.get_envs().all(|(name, _)| name != "BOOTLINE__BUS__ROLE") {
        command.env("BOOTLINE__BUS__ROLE", "admin");
    }
    let trust = folder.join("trust.pem");
    if trust.exists() {
        command.env("SSL_CERT_FILE", trust);
    }
    let mut child = command
        .arg("run")
        .arg("--config")
        .arg(folder.join("bootline.yml"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines_of(child.stderr.take().unwrap());
    (child, lines)
}

/// Lines of a pipe as they come; ends with the pipe.
pub fn lines_of(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if std::env::var_os("TEST_LOG").is_some() {
                println!("{line}");
            }
            // Whoever listened may have heard enough; the pipe is read on so that it never fills.
            let _ = tell.send(line);
        }
    });
    lines
}
