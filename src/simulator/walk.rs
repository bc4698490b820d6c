//! A walk through the names that a firmware asks for, whatever gets them: what is there, what is not, and what must be.

#[cfg(test)]
pub mod tests;

use crate::simulator::board::Board;
use crate::simulator::config_txt::Config;
use crate::simulator::download::{Fetched, Lost, Upset, Wish};

/// What was had over TFTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booted {
    pub files: u32,
    pub missing: u32,
    pub bytes: u64,
    /// What took too long and was taken for absent.
    pub cut: Vec<String>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Gets one file.
pub type Get<'a> = dyn FnMut(&str, Wish) -> Result<Fetched, Lost> + 'a;

/// Under way; what was had so far is counted.
pub struct Walk<'a> {
    pub board: Board,
    get: &'a mut Get<'a>,
    /// What stands before each name: `c0ffee12/`, or nothing.
    prefix: String,
    pub booted: Booted,
}

impl<'a> Walk<'a> {
    pub fn begin(board: Board, get: &'a mut Get<'a>) -> Self {
        Self { board, get, prefix: format!("{}/", board.serial.low()), booted: Booted::default() }
    }

    /// The folder with its serial does not look bootable: from now on names are bare.
    pub fn drop_prefix(&mut self) {
        self.prefix.clear();
    }

    /// Is it there? Only looks.
    pub fn sees(&mut self, name: &str) -> Result<bool, Unbootable> {
        let seen = self.ask(name, Wish::Probe)?.is_some();
        self.booted.missing += u32::from(!seen);
        Ok(seen)
    }

    /// The file's beginning, if it is there.
    pub fn want(&mut self, name: &str) -> Result<Option<Vec<u8>>, Unbootable> {
        self.whole(name, Wish::Whole)
    }

    /// The same, asked for twice at once.
    pub fn want_twice(&mut self, name: &str) -> Result<Option<Vec<u8>>, Unbootable> {
        self.whole(name, Wish::Twice)
    }

    /// Without it nothing boots.
    pub fn need(&mut self, name: &str) -> Result<Vec<u8>, Unbootable> {
        let late = self.booted.cut.len();
        match self.want(name)? {
            Some(head) => Ok(head),
            None if self.booted.cut.len() > late => Err(Unbootable::TooSlow(self.full(name))),
            None => Err(Unbootable::Missing(self.full(name))),
        }
    }

    /// The first of these names that is there.
    pub fn first_of<'n>(&mut self, names: &[&'n str]) -> Result<Option<&'n str>, Unbootable> {
        for name in names {
            if self.want(name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Names whose files would be started in the place of what is meant, if they were there.
    pub fn rescue(&mut self, names: &[&str]) -> Result<(), Unbootable> {
        match self.first_of(names)? {
            Some(name) => Err(Unbootable::Rescue(self.full(name))),
            None => Ok(()),
        }
    }

    /// The settings; nothing is set without the file, and older firmware ignores a longer one (raspberrypi/firmware#1012).
    pub fn config(&mut self, longest: Longest) -> Result<Config, Unbootable> {
        let text = self.want("config.txt")?.unwrap_or_default();
        match longest {
            Longest::Page if text.len() >= PAGE => Err(Unbootable::LongConfig { bytes: text.len() }),
            _ => Ok(Config::read(&text, self.board)),
        }
    }

    /// The root of the Linux that is meant here is an initramfs.
    pub fn initramfs(&mut self, names: &[String]) -> Result<(), Unbootable> {
        if names.is_empty() {
            return Err(Unbootable::NoInitramfs);
        }
        names.iter().try_for_each(|name| self.need(name).map(drop))
    }

    pub fn overlays(&mut self, config: &Config) -> Result<(), Unbootable> {
        config.overlays.iter().try_for_each(|name| self.want(&format!("overlays/{name}.dtbo")).map(drop))
    }

    pub fn cmdline(&mut self, config: &Config) -> Result<(), Unbootable> {
        let text = self.need(&config.cmdline)?;
        self.booted.cmdline = String::from_utf8_lossy(&text).trim().to_owned();
        Ok(())
    }

    /// The one that is configured, or the first of the usual names.
    pub fn kernel(&mut self, config: &Config, usual: &[&str]) -> Result<String, Unbootable> {
        if let Some(name) = &config.kernel {
            return self.need(name).map(|_| name.clone());
        }
        self.first_of(usual)?.map(str::to_owned).ok_or(Unbootable::NoKernel)
    }

    fn whole(&mut self, name: &str, wish: Wish) -> Result<Option<Vec<u8>>, Unbootable> {
        match self.ask(name, wish)? {
            Some(Fetched::Whole { bytes, head }) => {
                self.booted.files += 1;
                self.booted.bytes += bytes;
                Ok(Some(head))
            }
            _ => {
                self.booted.missing += 1;
                Ok(None)
            }
        }
    }

    fn ask(&mut self, name: &str, wish: Wish) -> Result<Option<Fetched>, Unbootable> {
        let name = self.full(name);
        match (self.get)(&name, wish) {
            Ok(Fetched::Missing) => Ok(None),
            Ok(found) => Ok(Some(found)),
            // What takes too long "does not exist": a board goes on without it.
            Err(Lost { why: Upset::Timeout, .. }) => {
                self.booted.cut.push(name);
                Ok(None)
            }
            Err(lost) => Err(lost.into()),
        }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// How long a `config.txt` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Longest {
    /// Below 4096 bytes.
    Page,
    Any,
}

const PAGE: usize = 4096;

/// The boot files do not make a boot.
#[derive(Debug, thiserror::Error)]
pub enum Unbootable {
    #[error("the station has no {0}")]
    Missing(String),
    #[error("{0} takes too long to be had")]
    TooSlow(String),
    #[error("the station has no kernel")]
    NoKernel,
    #[error("no initramfs is configured: the kernel finds no root")]
    NoInitramfs,
    #[error("config.txt has {bytes} bytes: firmware ignores one of 4096 and more")]
    LongConfig { bytes: usize },
    #[error("the station serves {0}: the board starts that instead")]
    Rescue(String),
    #[error(transparent)]
    Lost(#[from] Lost),
}
