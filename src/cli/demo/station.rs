//! The agent of the demo: its configuration, its boot files, its process, and the one REST call that is needed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::cli::demo::image::DemoImage;

pub const ID: &str = "demo";
pub const BRIDGE: &str = "br0";
pub const MQTT_PORT: u16 = 1883;
const OPERATORS: &str = "127.0.0.1:8080";

/// A running agent. Dropping it kills it.
#[derive(Debug)]
pub struct Station {
    process: Child,
    log: PathBuf,
}

impl Station {
    /// Writes what the agent needs and starts it as anyone would.
    pub fn start(folder: &Path) -> Result<Self> {
        let bootfiles = folder.join("bootfiles");
        write_boot_files(&bootfiles).context("cannot write boot files")?;
        let config = folder.join("bootline.yml");
        fs::write(&config, configuration(folder)).context("cannot write the configuration")?;
        let log = folder.join("agent.log");
        let output = File::create(&log).context("cannot write the agent's log")?;
        let process = Command::new("/proc/self/exe")
            .args(["run".as_ref(), "--config".as_ref(), config.as_os_str()])
            // The caller's BOOTLINE__.. overrides are for his station.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "RUST_LOG"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the agent")?;
        Ok(Self { process, log })
    }

    /// Asks until the agent says that it is ready; fails at once when it has ended.
    pub async fn until_ready(&mut self) -> Result<()> {
        loop {
            self.still_there()?;
            if matches!(ready().await, Ok(true)) {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// An error with its last words, if it has ended.
    pub fn still_there(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the agent has ended with {status}:\n{}", self.last_words()),
        }
    }

    /// Uploads the image as an operator would.
    pub async fn upload(&self, image: &DemoImage) -> Result<()> {
        let url = format!("http://{OPERATORS}/api/v1/images?name=demo.img.xz&sha256={}", image.packed_sha256);
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "-X", "POST", "-H", "Content-Type: application/octet-stream", "-T"])
            .arg(&image.packed)
            .arg(&url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run curl")?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("the station does not take the image: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(())
    }

    /// Asks it to end in order.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        }
        let status: ExitStatus = timeout(GOODBYE, self.process.wait()).await.context("the agent does not stop")??;
        if !status.success() && status.signal() != Some(Signal::SIGTERM as i32) {
            bail!("the agent has ended with {status}:\n{}", self.last_words());
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }
}

/// `contract.md` §2, for a network that nobody else is on.
fn configuration(folder: &Path) -> String {
    format!(
        "station:
  id: {ID}
network:
  interface: {BRIDGE}
  address: 192.168.5.1/16
  dhcp:
    mode: server
    range: 192.168.5.2-192.168.255.254
  tftp: {{listen: 192.168.5.1:69}}
http:
  devices: 192.168.5.1:80
  operators: {OPERATORS}
bus:
  mqtt: embedded
  mqtt_listen: 127.0.0.1:{MQTT_PORT}
  nats: off
  role: admin
data: {}
bootfiles: {}
",
        quoted(&folder.join("data")),
        quoted(&folder.join("bootfiles")),
    )
}

/// A path as a YAML text in double quotes, which is also one in JSON.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// Stand-ins of modest size: the bytes do not matter to a simulated device, their number does.
fn write_boot_files(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("overlays"))?;
    let mut noise = File::open("/dev/urandom")?;
    for (name, kib) in [
        ("start4.elf", 350),
        ("fixup4.dat", 5),
        ("bcm2711-rpi-cm4.dtb", 48),
        ("bcm2712-rpi-cm5-cm5io.dtb", 48),
        ("overlays/dwc2.dtbo", 1),
        ("overlays/spi-gpio40-45.dtbo", 1),
        ("scriptexecute.img", 400),
        ("kernel8.img", 750),
    ] {
        let mut bytes = vec![0; kib * 1024];
        noise.read_exact(&mut bytes)?;
        fs::write(folder.join(name), bytes)?;
    }
    // One initramfs for both: no module ever starts it.
    fs::write(folder.join("config.txt"), "initramfs scriptexecute.img followkernel\n[cm4]\ndtoverlay=spi-gpio40-45\n")
}

async fn ready() -> io::Result<bool> {
    let ask = async {
        let mut stream = TcpStream::connect(OPERATORS).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {OPERATORS}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    timeout(Duration::from_secs(2), ask).await.map_err(|_| io::ErrorKind::TimedOut)?
}

pub const LOOK_AGAIN: Duration = Duration::from_millis(50);
const GOODBYE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_yaml_whatever_the_folder_is_called() {
        let text = configuration(Path::new("/tmp/a \"b\": c"));
        let value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(value["data"].as_str(), Some("/tmp/a \"b\": c/data"));
        assert_eq!(value["bus"]["mqtt"].as_str(), Some("embedded"));
        assert_eq!(value["bus"]["nats"].as_str(), Some("off"));
    }
}
