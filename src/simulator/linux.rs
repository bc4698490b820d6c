//! The Linux stage: what `S99scriptexec` of the stock initramfs does, step by step, ending with the served script in a real shell.

use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::core::device::{Mac, Serial};
use crate::dhcp::packet::code;
use crate::simulator::lease::{Believes, CLIENT, Ends, Leased, Personality, SERVER, release};
use crate::simulator::room::{Enclosed, PATH, find_program};

/// busybox 1.31.1 `udhcpc`, as the initramfs starts it.
pub fn personality(mac: Mac) -> Personality {
    let options = |kind: u8| {
        vec![
            (code::KIND, vec![kind]),
            (code::CLIENT_ID, client_id(mac)),
            (MAX_MESSAGE, 576_u16.to_be_bytes().to_vec()),
            (code::PARAMETERS, vec![1, 3, 6, 12, 15, 28, 42]),
            (code::VENDOR_CLASS, b"udhcp 1.31.1".to_vec()),
        ]
    };
    Personality {
        xid: None,
        discover: options(1),
        request: options(3),
        takes: |_| true,
        believes: Believes::NextServer,
        ends: Ends::Ack,
        again: Duration::from_secs(3),
        patience: Duration::from_secs(60),
    }
}

fn client_id(mac: Mac) -> Vec<u8> {
    let mut id = vec![1];
    id.extend(mac.bytes());
    id
}

/// What the init reads from the board.
#[derive(Clone, Debug)]
pub struct Found {
    pub serial: Serial,
    pub mac: Mac,
    pub model: String,
    pub storage_sectors: u64,
    pub memory_kb: u64,
    pub cid: String,
    pub csd: String,
}

/// The URL of the script: `script=` of the kernel's command line with its placeholders filled in, and our mark.
pub fn script_url(cmdline: &str, found: &Found) -> Option<String> {
    let words = || cmdline.split_ascii_whitespace();
    let template = words().filter_map(|word| word.strip_prefix("script=")).next_back()?;
    if !template.starts_with("http:") {
        return None;
    }
    let jumper = if words().any(|word| word == "readjumper") { "111" } else { "" };
    let mac: Vec<String> = found.mac.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let values = [
        ("{model}", found.model.replace(' ', "+")),
        ("{serial}", found.serial.to_string()),
        ("{temp}", "42.0'C".to_owned()),
        ("{storagesize}", found.storage_sectors.to_string()),
        ("{cid}", found.cid.clone()),
        ("{csd}", found.csd.clone()),
        ("{bootmode}", "2".to_owned()),
        ("{memorysize}", found.memory_kb.to_string()),
        ("{mac}", mac.join(":")),
        ("{jumper}", jumper.to_owned()),
    ];
    let url = values.iter().fold(template.to_owned(), |url, (name, value)| url.replace(name, value));
    let and = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{and}simulated=1"))
}

/// `curl -g --retry 10 --retry-connrefused -o /tmp/script URL`: without `-f`, so whatever comes is the script.
pub fn fetch_script(room: &Enclosed, url: &str) -> Result<(), Halted> {
    let log = "/tmp/curl.log";
    let arguments = ["-g", "--retry", "10", "--retry-connrefused", "-o", SCRIPT, url];
    let status = run(room, Path::new("curl"), &arguments, log)?;
    if status.success() { Ok(()) } else { Err(Halted::Curl { status, log: tail(log, 300) }) }
}

/// A device that does not run its script sees at least that it is not a refusal, which says no with status 200.
pub fn look_at_script(_: &Enclosed) -> Result<(), Halted> {
    let script = fs::read(SCRIPT).map_err(Halted::Run)?;
    let script = String::from_utf8_lossy(&script);
    if script.lines().any(|line| line.starts_with("REPORT_URL=")) {
        return Ok(());
    }
    let said = script.lines().find(|line| line.starts_with("REASON=")).or_else(|| script.lines().next());
    Err(Halted::Refused(said.unwrap_or_default().to_owned()))
}

/// A script that did not come over the network.
pub fn bring_script(_: &Enclosed, script: &str) -> io::Result<()> {
    fs::write(SCRIPT, script)
}

/// How the script ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub exit: i32,
    /// The end of what it printed.
    pub output: String,
}

/// `sh /tmp/script`, in busybox where there is one.
pub fn run_script(room: &Enclosed) -> Result<Ended, Halted> {
    let log = "/tmp/script.log";
    let status = match find_program("busybox") {
        Some(busybox) => run(room, &busybox, &["sh", SCRIPT], log)?,
        None => run(room, Path::new("sh"), &[SCRIPT], log)?,
    };
    let exit = status.code().unwrap_or(KILLED);
    Ok(Ended { exit, output: tail(log, 4000) })
}

/// As udhcpc does on SIGUSR2.
pub fn let_go(mac: Mac, leased: &Leased) -> io::Result<()> {
    let socket = UdpSocket::bind((leased.address, CLIENT))?;
    socket.send_to(&release(mac, leased, client_id(mac)).encode(), (leased.server, SERVER))?;
    Ok(())
}

/// Runs a program without any capability, its output in a file: a pipe would be held open by what it leaves behind.
fn run(_: &Enclosed, program: &Path, arguments: &[&str], log: &str) -> Result<ExitStatus, Halted> {
    let output = File::create(log).map_err(Halted::Run)?;
    let errors = output.try_clone().map_err(Halted::Run)?;
    Command::new("setpriv")
        .args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"])
        .arg(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("USER", "root"), ("TERM", "dumb"), ("LC_ALL", "C")])
        .current_dir("/root")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(Halted::Run)
}

/// The last characters of a log.
fn tail(log: &str, length: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(length)..]).replace('\r', "\n");
    text.trim_end().to_owned()
}

const SCRIPT: &str = "/tmp/script";
/// DHCP option 57.
const MAX_MESSAGE: u8 = 57;
/// The exit code of a script that a signal ended.
const KILLED: i32 = 137;

/// The Linux stage came to a halt.
#[derive(Debug, thiserror::Error)]
pub enum Halted {
    #[error("curl ended with {status}: {log}")]
    Curl { status: ExitStatus, log: String },
    #[error("the script provisions nothing: {0}")]
    Refused(String),
    #[error("cannot run a program of the Linux stage")]
    Run(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        Found {
            serial: "10000000a1b2c3d4".parse().unwrap(),
            mac: "e45f01112233".parse().unwrap(),
            model: "Raspberry Pi Compute Module 4 Rev 1.1".to_owned(),
            storage_sectors: 131_072,
            memory_kb: 3_884_064,
            cid: "15010042".to_owned(),
            csd: "d0270132".to_owned(),
        }
    }

    #[test]
    fn the_placeholders_are_filled_in_as_the_init_does_it() {
        let cmdline = "console=tty1 readjumper script=http://192.168.5.1/scriptexecute?serial={serial}&model={model}&\
                       storagesize={storagesize}&mac={mac}&inversejumper={jumper}&memorysize={memorysize}&temp={temp}&\
                       cid={cid}&csd={csd}&bootmode={bootmode}";
        assert_eq!(
            script_url(cmdline, &found()).as_deref(),
            Some(
                "http://192.168.5.1/scriptexecute?serial=10000000a1b2c3d4&model=Raspberry+Pi+Compute+Module+4+Rev+1.1&\
                 storagesize=131072&mac=e4:5f:01:11:22:33&inversejumper=111&memorysize=3884064&temp=42.0'C&\
                 cid=15010042&csd=d0270132&bootmode=2&simulated=1"
            )
        );
    }

    #[test]
    fn only_http_scripts_are_run() {
        assert_eq!(script_url("script=nfs://a/b", &found()), None);
        assert_eq!(script_url("script=-o/etc/passwd", &found()), None);
        assert_eq!(script_url("console=tty1", &found()), None);
        assert_eq!(script_url("script=http:x", &found()).as_deref(), Some("http:x?simulated=1"));
    }
}
