//! The device's side of the wire: a caged process that boots like a Pi 3, a CM4 or a CM5, asks like its Linux stage, and
//! runs the served script.
//!
//! ```text
//! parent (cli)          fleet ── cage ── line ┐   a process outside, async, owns the links and the time limit
//! gate   (re-executed)  gate                  │   unshares the namespaces before any thread exists, starts process 1
//! inside (re-executed)  device ── room        │   process 1: private root, then bootloader, then linux
//!                         ├─ bootloader ── lease, ether; pi3, pi4, pi5 ── walk, config_txt; fetch ── download
//!                         └─ linux ─────── lease, ether, then curl and sh without capabilities
//! ```
//!
//! `lease::Asking`, `download::Transfer` and the walks are machines without socket and clock: they go wrong where a real
//! board does, and their tests say where.
//!
//! May import: core, and the pure files `dhcp::packet`, `dhcp::pi` and `tftp::packet`. Start reading at `device.rs`.

pub mod attend;
pub mod board;
pub mod bootloader;
pub mod cage;
pub mod clock;
pub mod config_txt;
pub mod device;
pub mod download;
pub mod ether;
pub mod fetch;
pub mod fleet;
pub mod gate;
pub mod lease;
pub mod line;
pub mod linux;
pub mod mounts;
pub mod net;
pub mod pi3;
pub mod pi4;
pub mod pi5;
pub mod room;
pub mod walk;
