//! From the name a bootloader asks for to the bytes it gets.
//!
//! A board asks for 40 to 70 files, most of which are not there, so a look costs one open and one stat below the
//! folder; the bytes of a file are read once and shared by all downloads until the file changes.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::core::device::{Mac, Serial8};

/// The folder of boot files, and what of it was read already.
pub struct BootFiles {
    folder: PathBuf,
    /// What `{server}` in `config.txt` and `cmdline.txt` becomes.
    server: String,
    /// By device, inode and kind, so that no name, link or prefix makes it grow beyond the folder.
    known: HashMap<(u64, u64, Kind), Arc<BootFile>>,
}

impl BootFiles {
    pub fn new(folder: PathBuf, devices_http: SocketAddrV4) -> Self {
        let server = match devices_http.port() {
            80 => devices_http.ip().to_string(),
            _ => devices_http.to_string(),
        };
        Self {
            folder,
            server,
            known: HashMap::new(),
        }
    }

    /// Looks for the file; does not read it.
    pub fn find(&mut self, asked: &str) -> Result<Arc<BootFile>, NotServed> {
        let path = path(asked)?;
        if is_never_served(&path) {
            return Err(NotServed::Missing);
        }
        let built_in = match path.as_str() {
            "config.txt" => Some(CONFIG),
            "cmdline.txt" => Some(CMDLINE),
            _ => None,
        };
        let kind = if built_in.is_some() {
            Kind::Template
        } else {
            Kind::Plain
        };
        let opened = match (self.open(&path), path.strip_prefix("overlays/")) {
            // The predecessor's folder has its overlays flat beside the rest.
            (Err(NotServed::Missing), Some(flat)) => self.open(flat),
            (opened, _) => opened,
        };
        match (opened, built_in) {
            (Ok((file, stamp)), _) => Ok(self.keep(file, stamp, kind)),
            (Err(NotServed::Missing), Some(text)) => {
                Ok(Arc::new(BootFile::ready(render(text, &self.server))))
            }
            (Err(why), _) => Err(why),
        }
    }

    fn keep(&mut self, file: File, stamp: Stamp, kind: Kind) -> Arc<BootFile> {
        let key = (stamp.device, stamp.inode, kind);
        match self.known.get(&key) {
            Some(known) if known.stamp == Some(stamp) => Arc::clone(known),
            _ => {
                let server = matches!(kind, Kind::Template).then(|| self.server.clone());
                let fresh = BootFile {
                    source: Some(file),
                    stamp: Some(stamp),
                    server,
                    ..BootFile::default()
                };
                let fresh = Arc::new(fresh);
                self.known.insert(key, Arc::clone(&fresh));
                fresh
            }
        }
    }

    /// Opens a file below the folder. A link may lead to another place in it, and not out of it.
    fn open(&self, path: &str) -> Result<(File, Stamp), NotServed> {
        let fault = |source| NotServed::Unreadable {
            path: self.folder.join(path),
            source,
        };
        let folder = File::open(&self.folder).map_err(fault)?;
        let how = OpenHow::new()
            // A pipe in the folder must not hold us up.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = match openat2(&folder, Path::new(path), how) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {
                return Err(NotServed::Missing);
            }
            Err(Errno::EXDEV) => return Err(NotServed::Denied),
            Err(error) => return Err(fault(error.into())),
        };
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(NotServed::Missing);
        }
        if metadata.len() > LARGEST {
            return Err(NotServed::TooLarge {
                path: self.folder.join(path),
                bytes: metadata.len(),
            });
        }
        Ok((file, Stamp::of(&metadata)))
    }
}

/// One file as it was when it was looked for.
#[derive(Debug, Default)]
pub struct BootFile {
    source: Option<File>,
    stamp: Option<Stamp>,
    /// Set for a template.
    server: Option<String>,
    bytes: OnceLock<Bytes>,
    /// Held by the one who reads, so that twenty boards do not read the same kernel twenty times.
    reading: Mutex<()>,
}

impl BootFile {
    fn ready(bytes: Bytes) -> Self {
        Self {
            bytes: OnceLock::from(bytes),
            ..Self::default()
        }
    }

    /// The bytes, if somebody has read them already.
    pub fn bytes(&self) -> Option<Bytes> {
        self.bytes.get().cloned()
    }

    /// Reads the file, or waits for the one who does. Blocks.
    pub fn read(&self) -> io::Result<Bytes> {
        let _turn = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = self.bytes() {
            return Ok(bytes);
        }
        let (Some(file), Some(stamp)) = (&self.source, self.stamp) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = vec![0; usize::try_from(stamp.size).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(io::Error::other("the file has changed while it was read"));
        }
        let bytes = match &self.server {
            Some(server) => render(&String::from_utf8_lossy(&bytes), server),
            None => Bytes::from(bytes),
        };
        Ok(self.bytes.get_or_init(|| bytes).clone())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Plain,
    Template,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The path below the folder, without the device's prefix (`TFTP_PREFIX`: low word of the serial, or MAC). All devices
/// have the same files, so whose prefix it is does not matter; and because `<prefix>/start4.elf` is found, a bootloader
/// keeps its prefix and tells who it is with every name.
fn path(asked: &str) -> Result<String, NotServed> {
    if asked.contains(['\\', '\0']) || asked.split('/').any(|part| part == "..") {
        return Err(NotServed::Denied);
    }
    // Seen from Pi 4 and 5: a leading slash, and a doubled one after the prefix.
    let parts: Vec<&str> = asked
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let parts = match parts.as_slice() {
        [first, rest @ ..] if !rest.is_empty() && is_prefix(first) => rest,
        all => all,
    };
    if parts.is_empty() {
        return Err(NotServed::Missing);
    }
    Ok(parts.join("/"))
}

fn is_prefix(part: &str) -> bool {
    part.parse::<Serial8>().is_ok() || (part.contains('-') && part.parse::<Mac>().is_ok())
}

/// Names that make a bootloader flash its EEPROM or start a rescue system. They are asked for at every boot, so a file
/// of that name that happens to lie in the folder would be a trap.
fn is_never_served(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.starts_with("pieeprom.") || name.starts_with("recovery.") || name == "recover4.elf"
}

/// The other braces of `cmdline.txt` are for the device to fill in.
fn render(template: &str, server: &str) -> Bytes {
    template.replace("{server}", server).into()
}

const CONFIG: &str = include_str!("../../bootfiles/config.txt");
const CMDLINE: &str = include_str!("../../bootfiles/cmdline.txt");
/// No bootloader takes more; whoever puts a disk image here has mistaken the folder.
const LARGEST: u64 = 256 << 20;

/// Why a name gets no file.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    #[error("file not found")]
    Missing,
    /// The name, or a link, leads out of the folder.
    #[error("access violation")]
    Denied,
    #[error("the boot file {path} is too large: {bytes} bytes")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("cannot read the boot file {path}")]
    Unreadable { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    struct World {
        _folder: tempfile::TempDir,
        files: BootFiles,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret.txt"), "secret").unwrap();
        let boot = folder.path().join("boot");
        fs::create_dir_all(boot.join("overlays")).unwrap();
        fs::write(boot.join("start4.elf"), "elf").unwrap();
        fs::write(boot.join("dwc2.dtbo"), "flat").unwrap();
        fs::write(boot.join("overlays/vc4.dtbo"), "deep").unwrap();
        fs::write(boot.join("pieeprom.upd"), "flash").unwrap();
        std::os::unix::fs::symlink("start4.elf", boot.join("inside.elf")).unwrap();
        std::os::unix::fs::symlink("../secret.txt", boot.join("outside.txt")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), boot.join("absolute.txt"))
            .unwrap();
        World {
            files: BootFiles::new(boot, "172.20.0.1:80".parse().unwrap()),
            _folder: folder,
        }
    }

    impl World {
        fn text(&mut self, asked: &str) -> Result<String, u16> {
            match self.files.find(asked) {
                Ok(file) => Ok(String::from_utf8(file.read().unwrap().to_vec()).unwrap()),
                Err(NotServed::Missing) => Err(1),
                Err(NotServed::Denied) => Err(2),
                Err(other) => panic!("{other}"),
            }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.files.folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_file_is_found_bare_and_under_the_prefix_of_a_device() {
        let mut world = world();
        for asked in [
            "start4.elf",
            "/start4.elf",
            "c0ffee12/start4.elf",
            "c0ffee12//start4.elf",
            "./start4.elf",
            "dc-a6-32-01-36-c2/start4.elf",
        ] {
            assert_eq!(world.text(asked), Ok("elf".to_owned()), "{asked}");
        }
        for asked in [
            "c0ffee12",
            "c0ffee1/start4.elf",
            "c0ffee12/c0ffee12/start4.elf",
            "start.elf",
            "overlays",
            "start4.elf/",
            "/",
            "",
        ] {
            let found = world.text(asked);
            assert!(
                found == Err(1) || asked == "start4.elf/",
                "{asked} {found:?}"
            );
        }
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let mut world = world();
        for asked in [
            "../secret.txt",
            "overlays/../../secret.txt",
            "c0ffee12/../secret.txt",
            "..\\secret.txt",
            "outside.txt",
            "absolute.txt",
        ] {
            assert_eq!(world.text(asked), Err(2), "{asked}");
        }
        for asked in ["/etc/passwd", "//etc/passwd", "~/x"] {
            assert_eq!(world.text(asked), Err(1), "{asked}");
        }
        assert_eq!(world.text("inside.elf"), Ok("elf".to_owned()));
    }

    #[test]
    fn overlays_may_lie_flat() {
        let mut world = world();
        assert_eq!(
            world.text("c0ffee12/overlays/dwc2.dtbo"),
            Ok("flat".to_owned())
        );
        assert_eq!(world.text("overlays/vc4.dtbo"), Ok("deep".to_owned()));
        assert_eq!(world.text("overlays/none.dtbo"), Err(1));
    }

    #[test]
    fn what_would_flash_the_eeprom_is_never_served() {
        let mut world = world();
        for asked in [
            "pieeprom.upd",
            "c0ffee12/pieeprom.upd",
            "PIEEPROM.upd",
            "recovery.elf",
            "recover4.elf",
            "overlays/pieeprom.upd",
        ] {
            assert_eq!(world.text(asked), Err(1), "{asked}");
        }
    }

    #[test]
    fn the_command_line_names_the_station_and_leaves_the_rest_to_the_device() {
        let mut world = world();
        let line = world.text("c0ffee12/cmdline.txt").unwrap();
        assert!(
            line.starts_with(
                "readjumper script=http://172.20.0.1/scriptexecute?serial={serial}&model={model}"
            ),
            "{line}"
        );
        assert!(
            line.ends_with("&bootmode={bootmode}\n") && line.lines().count() == 1,
            "{line}"
        );
        world.write("cmdline.txt", "script=http://{server}/x?serial={serial}");
        assert_eq!(
            world.text("cmdline.txt"),
            Ok("script=http://172.20.0.1/x?serial={serial}".to_owned())
        );
        world.files.server = "172.20.0.1:8080".to_owned();
        world.write("cmdline.txt", "script=http://{server}/y");
        assert_eq!(
            world.text("cmdline.txt"),
            Ok("script=http://172.20.0.1:8080/y".to_owned())
        );
    }

    #[test]
    fn the_port_is_named_unless_it_is_80() {
        let server =
            |address: &str| BootFiles::new(PathBuf::new(), address.parse().unwrap()).server;
        assert_eq!(server("10.0.0.1:80"), "10.0.0.1");
        assert_eq!(server("10.0.0.1:8080"), "10.0.0.1:8080");
    }

    #[test]
    fn the_built_in_configuration_is_short_enough_for_old_firmware() {
        let config = world().text("config.txt").unwrap();
        assert!(
            config.len() < 4096 && config.contains("\ninitramfs scriptexecute.img followkernel\n")
        );
    }

    #[test]
    fn a_file_is_read_once_until_it_changes() {
        let mut world = world();
        let first = world.files.find("start4.elf").unwrap();
        assert_eq!(first.bytes(), None);
        first.read().unwrap();
        let again = world.files.find("c0ffee12/start4.elf").unwrap();
        assert_eq!(again.bytes(), Some(Bytes::from("elf")));
        world.write("start4.elf", "newer");
        assert_eq!(world.text("start4.elf"), Ok("newer".to_owned()));
        assert_eq!(again.bytes(), Some(Bytes::from("elf")));
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_folder(parts in proptest::collection::vec("\\.\\.|\\.|[a-z]{0,2}|secret.txt|boot|overlays|c0ffee12", 0..6)) {
            let mut world = world();
            if let Ok(file) = world.files.find(&parts.join("/")) {
                prop_assert_ne!(&file.read().unwrap()[..], b"secret");
            }
        }
    }
}
