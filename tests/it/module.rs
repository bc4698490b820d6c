//! A module as the served script meets it: a root of busybox tools in memory, `curl`, a block device as its eMMC, and a
//! cable of its own to the station's bridge, all in namespaces that end with it.
//!
//! The medium is a loop device over a file, so what a kernel has really given to the disk can be looked at beside what it
//! still holds in memory. Loop devices are not for user namespaces: this needs root, and `/dev/loop-control`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::agent::PATIENCE;

/// What a medium holds before it is written: bytes of another system, with the signature of one that boots.
const OLD: u8 = 0xa5;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// A disk of a given size, over a file in `folder`.
pub struct Medium {
    file: PathBuf,
    /// Held open: the kernel lets go of the loop device when the last one closes it, whatever happens to the test.
    device: File,
    path: PathBuf,
}

impl Medium {
    /// None where this system has no loop devices; with `CI=true` that is a failure.
    pub fn make(folder: &Path, size: u64) -> Option<Self> {
        let file = folder.join("medium");
        let mut old = vec![OLD; usize::try_from(size).unwrap()];
        old[510..512].copy_from_slice(&SIGNATURE);
        fs::write(&file, old).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().unwrap();
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(std::env::var_os("CI").is_none(), "loop devices are needed and there are none: {why}");
            eprintln!("skipped: no loop devices: {why}");
            return None;
        }
        let path = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim());
        let device = File::open(&path).unwrap();
        assert!(device.metadata().unwrap().file_type().is_block_device());
        run(Command::new("losetup").arg("--detach").arg(&path));
        Some(Self { file, device, path })
    }

    /// As every reader on the module sees it.
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.device.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// What is on the disk for good: the pages that the kernel of the module still holds are not in it, and a power cut
    /// takes them.
    pub fn after_power_cut(&self) -> Vec<u8> {
        fs::read(&self.file).unwrap()
    }

    /// Changes one byte behind the back of everything that writes and caches, as failing flash does.
    pub fn rot(&self, at: u64) {
        let file = File::options().read(true).write(true).open(&self.file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }
}

/// How a module differs from one that just works.
#[derive(Clone, Debug, Default)]
pub struct Wiring {
    /// What the cable carries, as `tc` writes it.
    pub rate: Option<&'static str>,
    /// The first call of curl with these words (a shell pattern) is the last thing that the module does until `let_go`.
    pub hold: Option<&'static str>,
    /// It has an EEPROM with this content, and a flashrom to read and write it.
    pub eeprom: Option<Vec<u8>>,
    /// That flashrom never ends a write.
    pub slow_eeprom: bool,
    /// What it says of the size of its storage, where that is not the truth.
    pub tells_bytes: Option<u64>,
    /// It may empty the memory of what was read, which is all of this machine's. Others read past that memory.
    pub drops_caches: bool,
}

pub struct Module {
    door: Box<dyn Fn(&str) -> Command + Send>,
    number: u8,
    folder: TempDir,
    pub medium: Medium,
    process: Child,
}

impl Module {
    /// Powers on module `number` (2 to 250) in the network behind `door`; it fetches its script and runs it. None: see `Medium::make`.
    pub fn boot(
        door: impl Fn(&str) -> Command + Send + 'static,
        number: u8,
        medium_bytes: u64,
        wiring: &Wiring,
    ) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::make(folder.path(), medium_bytes)?;
        let bench = folder.path().join("bench");
        furnish(&bench, wiring);
        let told = wiring.tells_bytes.unwrap_or(medium_bytes) / 512;
        let query = format!(
            "serial=10000000c00000{number:02x}&model=Raspberry+Pi+Compute+Module+4&storagesize={told}&mac={}&\
             inversejumper=&memorysize=3884064&temp=42.0'C&cid=15&csd=d0&bootmode=2",
            mac(number)
        );
        fs::write(bench.join("url"), format!("http://192.168.5.1/scriptexecute?{query}")).unwrap();
        let mut process = door("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-euc", ASSEMBLE, "module"])
            .arg(folder.path())
            .arg(medium.name())
            .arg(format!("{number}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let module = Self { door: Box::new(door), number, folder, medium, process };
        module.plug_in(pid.trim(), wiring.rate);
        module.process.stdin.as_ref().unwrap().write_all(b"on\n").unwrap();
        Some(module)
    }

    pub fn mac(&self) -> String {
        mac(self.number)
    }

    fn plug_in(&self, pid: &str, rate: Option<&str>) {
        let port = self.port();
        let ip = |words: &str| run((self.door)("ip").args(words.split(' ')));
        ip(&format!("link add {port} type veth peer name eth0 netns {pid}"));
        ip(&format!("link set {port} master br0 up"));
        if let Some(rate) = rate {
            let words = format!("qdisc add dev {port} root tbf rate {rate} burst 32kb latency 50ms");
            run((self.door)("tc").args(words.split(' ')));
        }
    }

    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    /// The cable is pulled: no packet passes, and nobody is told.
    pub fn pull_cable(&self) {
        run((self.door)("ip").args(["link", "set", &self.port(), "down"]));
    }

    pub fn plug_cable(&self) {
        run((self.door)("ip").args(["link", "set", &self.port(), "up"]));
    }

    /// Waits until it has noticed that nobody answers.
    pub fn await_unheard(&self) {
        let calls = self.bench("calls");
        // A file that is cut to nothing here is written on at its end.
        fs::write(&calls, "").unwrap();
        self.until("misses its station", || {
            let calls = fs::read_to_string(&calls).unwrap_or_default();
            calls.lines().any(|rc| ["7", "28", "52", "56"].contains(&rc))
        });
    }

    /// The power goes: the station hears no farewell. What the medium holds then.
    pub fn cut_power(&mut self) -> Vec<u8> {
        self.pull_cable();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.medium.after_power_cut()
    }

    /// Waits until it stands where `Wiring::hold` says.
    pub fn await_held(&self) {
        self.until("stands still", || self.bench("held").exists());
    }

    pub fn let_go(&self) {
        // A fifo opens when both ends are there.
        fs::write(self.bench("go"), "go\n").unwrap();
    }

    /// Waits until so much of the image is on its medium, or in its memory on the way there.
    pub fn await_written(&self, at: u64) {
        self.until("has written so much", || {
            let bytes = self.medium.read(at, 512);
            bytes.iter().any(|byte| *byte != OLD) && bytes.iter().any(|byte| *byte != 0)
        });
    }

    /// Waits for the end of its script: the exit code.
    pub fn await_end(&self) -> i32 {
        self.until("ends its script", || self.bench("exit").exists());
        fs::read_to_string(self.bench("exit")).unwrap().trim().parse().unwrap()
    }

    /// What its screen shows.
    pub fn screen(&self) -> String {
        let text = |name| fs::read_to_string(self.bench(name)).unwrap_or_default();
        format!("{}{}", text("kernel"), text("screen"))
    }

    /// A file that the module and the test share.
    pub fn bench(&self, name: &str) -> PathBuf {
        self.folder.path().join("bench").join(name)
    }

    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < 2 * PATIENCE, "module {} never {what}:\n{}", self.number, self.screen());
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mac(number: u8) -> String {
    format!("0200000000{number:02x}")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The folder that a module and its test share, with the tools that are not busybox's.
fn furnish(bench: &Path, wiring: &Wiring) {
    fs::create_dir_all(bench.join("bin")).unwrap();
    nix::unistd::mkfifo(&bench.join("go"), nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    tool(bench, "curl", &CURL.replace("HOLD", wiring.hold.unwrap_or("-none-")));
    tool(bench, "vcgencmd", "#!/bin/sh\n[ \"$1\" = measure_temp ] && echo \"temp=51.0'C\"\n");
    let settings = if wiring.drops_caches { "" } else { KEEP_CACHES };
    fs::write(bench.join("init"), INIT.replace("SETTINGS", settings)).unwrap();
    if let Some(eeprom) = &wiring.eeprom {
        fs::write(bench.join("eeprom"), eeprom).unwrap();
        let slow = if wiring.slow_eeprom { "while :; do sleep 1; done" } else { "" };
        tool(bench, "flashrom", &FLASHROM.replace("SLOW", slow));
    }
}

fn tool(bench: &Path, name: &str, text: &str) {
    let file = bench.join("bin").join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Run by root in new namespaces: FOLDER LOOP NUMBER. Says its process id, waits for its cable, and becomes the module,
/// without the powers that a mistake in a script must not have over this machine.
const ASSEMBLE: &str = r#"
root=$1/root
mkdir "$root"
mount -t tmpfs -o mode=755 module "$root"
cd "$root"
mkdir bench bin dev proc root sys tmp usr
ln -s usr/lib lib
[ ! -e /lib64 ] || ln -s usr/lib64 lib64
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind "$1/bench" bench
busybox=$(command -v busybox)
for applet in $("$busybox" --list); do ln -s "$busybox" "bin/$applet"; done
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/urandom c 1 9
IFS=: read -r major minor <"/sys/block/$2/dev"
mknod -m 600 dev/mmcblk0 b "$major" "$minor"
mkdir -p sys/block/mmcblk0 sys/class/net/eth0
mount --bind "/sys/block/$2/" sys/block/mmcblk0
echo $$
read -r on
ip link set lo up
ip link set eth0 up
ip address add "192.168.5.$3/16" dev eth0
mkdir "$1/sys"
mount -t sysfs sysfs "$1/sys"
mount --bind "$1/sys/class/net/eth0/" sys/class/net/eth0
exec unshare --pid --fork --kill-child --mount-proc="$root/proc" setpriv --inh-caps=-all \
    --bounding-set=-mknod,-net_admin,-net_raw,-sys_boot,-sys_module,-sys_ptrace,-sys_rawio,-sys_time \
    chroot "$root" /bin/sh /bench/init
"#;

/// What `S99scriptexec` does once there is a network.
const INIT: &str = r#"
export PATH=/bench/bin:/bin HOME=/root
cd /root
SETTINGS
{
    curl -g --retry 10 --retry-connrefused -o /tmp/script "$(cat /bench/url)"
} 2>/bench/kernel
sh /tmp/script >/bench/screen 2>&1
echo $? >/bench/ended
mv /bench/ended /bench/exit
"#;

const KEEP_CACHES: &str = "mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";

const CURL: &str = r#"#!/bin/sh
/usr/bin/curl "$@"
rc=$?
echo $rc >>/bench/calls
case "$*" in
    HOLD)
        if mkdir /bench/held 2>/dev/null; then read -r go </bench/go; fi
        ;;
esac
exit $rc
"#;

const FLASHROM: &str = r#"#!/bin/sh
case $3 in
    -r) cat /bench/eeprom >"$4" ;;
    -w)
        head -c 1000 "$4" >/bench/half
        SLOW
        cat "$4" >/bench/eeprom
        ;;
esac
"#;
