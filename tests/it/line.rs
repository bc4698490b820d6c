//! A station and a line of simulated devices on a bridge of the test's own.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use serde_json::Value;

use crate::agent::{PATIENCE, lines_of, run};
use crate::net::Net;

pub struct Line {
    pub net: Net,
    pub folder: tempfile::TempDir,
    agent: Option<Child>,
}

impl Line {
    /// A configured station with these boot files of some size; it does not run yet.
    pub fn new(net: Net, bus: &str, files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bootfiles = folder.path().join("bootfiles");
        fs::create_dir(&bootfiles).unwrap();
        for name in files {
            fs::write(bootfiles.join(name), vec![1; 50_000]).unwrap();
        }
        let text = format!(
            "station: {{id: st-test}}\nnetwork: {{interface: br0, address: 192.168.5.1/16}}\n\
             sessions: {{silence: 5s, max_attempts: 50}}\nbus: {{mqtt: {bus}}}\n\
             data: {0}/data\nbootfiles: {0}/bootfiles\n",
            folder.path().display()
        );
        fs::write(folder.path().join("bootline.yml"), text).unwrap();
        Self { net, folder, agent: None }
    }

    /// Changes its configuration, before it runs.
    pub fn configure(&self, from: &str, to: &str) {
        let file = self.folder.path().join("bootline.yml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
    }

    pub fn start(&mut self) {
        let (child, lines) = run(self.net.command(env!("CARGO_BIN_EXE_bootline")), self.folder.path());
        self.agent = Some(child);
        while !lines.recv_timeout(PATIENCE).expect("the agent gets ready").ends_with(" ready") {}
    }

    pub fn kill(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub fn curl(&self, arguments: &[&str], path: &str) -> Value {
        let output = self
            .net
            .command("curl")
            .args(["-s", "-S"])
            .args(arguments)
            .arg(format!("http://127.0.0.1:8080{path}"))
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{path}: {error}: {output:?}"))
    }

    /// An active project for everyone, with an image of one MiB.
    pub fn project(&self) {
        let image = self.folder.path().join("a.img");
        fs::write(&image, vec![9; 1 << 20]).unwrap();
        self.curl(&["--data-binary", &format!("@{}", image.display())], "/api/v1/images?name=a.img");
        self.curl(&["-d", r#"{"name":"Fleet","image":"a.img","again":"allow","active":true}"#], "/api/v1/projects");
    }

    /// Powers devices on; the last line is the result.
    pub fn power(&self, arguments: &[&str]) -> (Child, Receiver<String>) {
        let mut simulate: Command = self.net.command(env!("CARGO_BIN_EXE_bootline"));
        simulate.args(["simulate", "--interface", "br0", "--medium-size", "1MiB", "--timeout", "240", "--json"]);
        let mut child = simulate.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        (child, lines)
    }

    /// Powers devices on and waits for the last one.
    pub fn boot(&self, arguments: &[&str]) -> Value {
        let (mut child, lines) = self.power(arguments);
        let result = lines.iter().last().expect("a result");
        child.wait().unwrap();
        serde_json::from_str(&result).unwrap()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}
