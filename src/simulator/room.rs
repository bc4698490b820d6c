//! The room of one device: a root of its own in memory, in which nothing of the host can be written and no disk exists.
//!
//! The served script writes `/dev/mmcblk0` and reboots by nature; on a Pi the host's `/dev/mmcblk0` is its own system. So
//! the script is started only by who holds an [`Enclosed`], and only `enclose` makes one, after it has looked around.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, getpid, pivot_root, sethostname, setsid};

use crate::simulator::mounts::{MEDIUM, parse, stranger};

/// What a room is made of.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// An empty folder where the root is put together.
    pub root: &'a Path,
    /// The plain file that is the eMMC.
    pub medium: &'a Path,
    pub medium_sectors: u64,
    pub hostname: &'a str,
    pub address: &'a str,
    pub cid: &'a str,
    pub csd: &'a str,
}

/// Proof that this process is enclosed: only `enclose` makes one.
#[derive(Debug)]
pub struct Enclosed {
    _proof: (),
}

/// Builds the room, moves in, looks around. Must be process 1 of its own namespaces.
pub fn enclose(plan: &Plan<'_>) -> Result<Enclosed, Leak> {
    if getpid().as_raw() != 1 {
        return Err(Leak::NotAlone);
    }
    if !fs::symlink_metadata(plan.medium).is_ok_and(|found| found.is_file()) {
        return Err(Leak::Medium);
    }
    // Its own session: no terminal to type into.
    setsid().map_err(|errno| Leak::Step("leave the terminal", errno.into()))?;
    sethostname(plan.hostname).map_err(|errno| Leak::Step("set the host name", errno.into()))?;
    let programs = build(plan)?;
    move_in(plan.root)?;
    look_around(&programs)?;
    Ok(Enclosed { _proof: () })
}

fn build(plan: &Plan<'_>) -> Result<Vec<PathBuf>, Leak> {
    let root = plan.root;
    let still = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    change("/".as_ref(), MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    memory(root, still, "mode=0755,size=16m")?;
    for folder in ["usr", "proc", "dev", "sys", "tmp", "etc", "root", "mnt", "run", "var", "applets"] {
        make(&root.join(folder))?;
    }
    let programs = programs(root)?;
    fresh(&root.join("proc"), "proc", still | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY)?;
    memory(&root.join("tmp"), still, "mode=0755,size=256m")?;
    // Not sticky and not world-writable: the kernel refuses O_CREAT on a device node of another owner in such a folder.
    memory(&root.join("dev"), MsFlags::MS_NOSUID, "mode=0755,size=1m")?;
    for name in NODES {
        bind_file(&Path::new("/dev").join(name), &root.join("dev").join(name))?;
    }
    for (name, to) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        link(to, &root.join("dev").join(name))?;
    }
    bind_file(plan.medium, &root.join(MEDIUM.trim_start_matches('/')))?;
    memory(&root.join("sys"), still | MsFlags::MS_NOEXEC, "mode=0755,size=1m")?;
    write_sys(plan, &root.join("sys")).map_err(|error| Leak::Step("write /sys", error))?;
    write_etc(&root.join("etc")).map_err(|error| Leak::Step("write /etc", error))?;
    Ok(programs)
}

/// The host's programs and libraries, read-only with all that is mounted below them.
fn programs(root: &Path) -> Result<Vec<PathBuf>, Leak> {
    let mut bound = Vec::new();
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc/alternatives"] {
        let (host, here) = (Path::new("/").join(name), root.join(name));
        let Ok(found) = fs::symlink_metadata(&host) else {
            continue;
        };
        if found.is_symlink() {
            let to = fs::read_link(&host).map_err(|error| Leak::Step("read a link of /", error))?;
            link(&to.to_string_lossy(), &here)?;
        } else if found.is_dir() {
            make(&here)?;
            bind(&host, &here, MsFlags::MS_BIND | MsFlags::MS_REC)?;
            bound.push(host);
        }
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(|error| Leak::Step("read the mounts", error))?;
    for mount in parse(&mountinfo).iter().filter(|mount| mount.at != root && mount.at.starts_with(root)) {
        change(&mount.at, mount.read_only_again())?;
    }
    Ok(bound)
}

/// Makes the new root the only one.
fn move_in(root: &Path) -> Result<(), Leak> {
    let step = |errno: nix::Error| Leak::Step("change the root", errno.into());
    chdir(root).map_err(step)?;
    // Both at one place: the old root lies on top of the new one and comes off at once.
    pivot_root(".", ".").map_err(step)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step)?;
    chdir("/").map_err(step)
}

/// Believes nothing of the above.
fn look_around(programs: &[PathBuf]) -> Result<(), Leak> {
    let step = |error: io::Error| Leak::Step("look around", error);
    let root = statfs("/").map_err(|errno| step(errno.into()))?;
    if root.filesystem_type() != TMPFS_MAGIC {
        return Err(Leak::Root);
    }
    let mounts = parse(&fs::read_to_string("/proc/self/mountinfo").map_err(step)?);
    if let Some(mount) = stranger(&mounts, programs, &NODES) {
        return Err(Leak::Mount(mount.at.clone()));
    }
    for entry in fs::read_dir("/dev").map_err(step)? {
        let entry = entry.map_err(step)?;
        // Not `file_type()`: the folder knows only the places on which the nodes are mounted.
        let kind = fs::symlink_metadata(entry.path()).map_err(step)?.file_type();
        let name = entry.file_name();
        let allowed = match name.to_str() {
            Some("mmcblk0") => kind.is_file(),
            Some("fd" | "stdin" | "stdout" | "stderr") => kind.is_symlink(),
            Some(name) => kind.is_char_device() && NODES.contains(&name),
            None => false,
        };
        if !allowed {
            return Err(Leak::Device(entry.path()));
        }
    }
    let medium = fs::symlink_metadata(MEDIUM).map_err(step)?;
    if medium.is_file() { Ok(()) } else { Err(Leak::Medium) }
}

/// What the stock init reads below `/sys`: the eMMC and the Ethernet address.
fn write_sys(plan: &Plan<'_>, sys: &Path) -> io::Result<()> {
    let disk = sys.join("block/mmcblk0");
    fs::create_dir_all(disk.join("device"))?;
    fs::write(disk.join("size"), format!("{}\n", plan.medium_sectors))?;
    fs::write(disk.join("stat"), "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")?;
    fs::write(disk.join("ro"), "0\n")?;
    fs::write(disk.join("device/cid"), format!("{}\n", plan.cid))?;
    fs::write(disk.join("device/csd"), format!("{}\n", plan.csd))?;
    fs::write(disk.join("device/type"), "MMC\n")?;
    let card = sys.join("class/net/eth0");
    fs::create_dir_all(&card)?;
    fs::write(card.join("address"), format!("{}\n", plan.address))?;
    fs::write(card.join("carrier"), "1\n")
}

fn write_etc(etc: &Path) -> io::Result<()> {
    fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(etc.join("group"), "root:x:0:\n")?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n")?;
    // Where libraries lie outside of the loader's own folders.
    match fs::copy("/etc/ld.so.cache", etc.join("ld.so.cache")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The search path in the room: the host's programs first, then busybox for what the host lacks.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/applets";

/// Finds a program on the search path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Fills `/applets` with busybox's applets that the host has no program for.
pub fn hang_applets(_: &Enclosed) -> io::Result<()> {
    let Some(busybox) = find_program("busybox") else {
        return Ok(());
    };
    let list = Command::new(&busybox).arg("--list").output()?;
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| !name.contains('/')) {
        if find_program(name).is_none() {
            symlink(&busybox, Path::new("/applets").join(name))?;
        }
    }
    Ok(())
}

fn memory(at: &Path, flags: MsFlags, options: &str) -> Result<(), Leak> {
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(|errno| Leak::Mounting(at.to_owned(), errno.into()))
}

fn fresh(at: &Path, kind: &str, flags: MsFlags) -> Result<(), Leak> {
    mount(Some(kind), at, Some(kind), flags, None::<&str>).map_err(|errno| Leak::Mounting(at.to_owned(), errno.into()))
}

fn bind(from: &Path, at: &Path, flags: MsFlags) -> Result<(), Leak> {
    mount(Some(from), at, None::<&str>, flags, None::<&str>)
        .map_err(|errno| Leak::Mounting(from.to_owned(), errno.into()))
}

fn bind_file(from: &Path, at: &Path) -> Result<(), Leak> {
    fs::write(at, "").map_err(|error| Leak::Step("make a place for a file", error))?;
    bind(from, at, MsFlags::MS_BIND)
}

fn change(at: &Path, flags: MsFlags) -> Result<(), Leak> {
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .map_err(|errno| Leak::Mounting(at.to_owned(), errno.into()))
}

fn make(folder: &Path) -> Result<(), Leak> {
    fs::create_dir_all(folder).map_err(|error| Leak::Step("make a folder", error))
}

fn link(to: &str, at: &Path) -> Result<(), Leak> {
    symlink(to, at).map_err(|error| Leak::Step("make a link", error))
}

/// The only device nodes: none of them leads to a disk.
const NODES: [&str; 5] = ["full", "null", "random", "urandom", "zero"];

/// The cage cannot be built here, or does not hold: nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum Leak {
    #[error("not process 1 of its own namespaces")]
    NotAlone,
    #[error("the medium is not a plain file")]
    Medium,
    #[error("the root is not one in memory")]
    Root,
    #[error("{0} is mounted in the cage")]
    Mount(PathBuf),
    #[error("{0} is a device of the host in the cage")]
    Device(PathBuf),
    #[error("cannot mount {0}")]
    Mounting(PathBuf, #[source] io::Error),
    #[error("cannot {0}")]
    Step(&'static str, #[source] io::Error),
}
