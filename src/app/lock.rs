//! One agent a data folder: two writers would each believe that the book is theirs.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held as long as the agent lives; the kernel lets go of it when the process ends, however it ends.
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    pub fn take(data: &Path) -> Result<Self> {
        crate::app::make_folder(data)?;
        let path = data.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => bail!("another bootline uses the data folder {}", data.display()),
            Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}
