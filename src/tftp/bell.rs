//! Wakes a thread that waits for packets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

#[derive(Clone, Debug)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(event)))
    }

    pub fn ring(&self) {
        // Fails only when it has been rung 2^64 times and not heard.
        let _ = self.0.write(1);
    }

    /// Hears all rings until now.
    pub fn hush(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
