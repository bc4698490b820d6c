//! The line between a caged process and the one that started it: JSON lines over a socket that is the child's standard input.
//!
//! One end dies with its owner, so each side learns from the line alone that the other one is gone.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a caged process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// The gate has its namespaces and waits for its ids and to be admitted.
    Unshared,
    /// No cage can be had here; nothing was run.
    Refused { why: String },
    /// The cage holds and the wire is plugged in; it waits for its power.
    Caged,
    /// It has its power.
    Powered,
    /// The bootloader has an address.
    Offered { after_ms: u64, address: Ipv4Addr },
    /// The bootloader has the last file that it wants.
    Booted { after_ms: u64, files: u32, missing: u32, bytes: u64, cut: Vec<String> },
    /// The Linux stage has its script. Times count from the moment of its link.
    ScriptFetched { after_ms: u64 },
    /// It has its script and is not to run it.
    Unplugged { after_ms: u64 },
    /// The script ended by itself.
    Ended { after_ms: u64, exit: i32, output: String },
    /// The device came to a halt before its script ended.
    Failed { after_ms: u64, stage: Stage, detail: String },
}

/// The switch of a device that stands in its cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Power {
    /// When it is on, since 1970: the same moment for all, however late each hears of it.
    pub at: Duration,
}

/// Where a device came to a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Link,
    BootDhcp,
    BootFiles,
    LinuxDhcp,
    ScriptDownload,
    Script,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::BootDhcp => "boot dhcp",
            Self::BootFiles => "boot files",
            Self::LinuxDhcp => "linux dhcp",
            Self::ScriptDownload => "script download",
            Self::Script => "script",
        }
    }
}

/// An error with its causes, as one text: what can go over a line.
pub fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// One end of a line.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Line {
    /// Both ends: one to keep, one to become a child's standard input.
    pub fn pair() -> io::Result<(Self, UnixStream)> {
        let (near, far) = UnixStream::pair()?;
        Ok((Self(near), far))
    }

    /// The end that this process was started with.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?)))
    }

    pub fn say(&mut self, what: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(what).map_err(io::Error::other)?;
        text.push(b'\n');
        self.0.write_all(&text)
    }

    /// The next message; nothing when the other end is gone.
    ///
    /// Reads byte by byte: what follows the message belongs to the process that inherits the line.
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            match self.0.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) if byte[0] == b'\n' => break,
                Ok(_) => text.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        serde_json::from_slice(&text).map(Some).map_err(io::Error::other)
    }

    pub fn limit(&self, wait: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(wait)
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    pub fn into_stream(self) -> UnixStream {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_messages_until_one_end_is_gone() {
        let (mut near, far) = Line::pair().unwrap();
        let mut far = Line(far);
        let said = [Said::Unshared, Said::Refused { why: "no".to_owned() }, Said::ScriptFetched { after_ms: 7 }];
        for what in &said {
            far.say(what).unwrap();
        }
        drop(far);
        for what in said {
            assert_eq!(near.hear::<Said>().unwrap(), Some(what));
        }
        assert_eq!(near.hear::<Said>().unwrap(), None);
    }
}
