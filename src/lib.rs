//! bootline: netboots bare Raspberry Pi modules, writes the right image on each, proves it, and tells the factory.
//!
//! # The map
//!
//! Rooms on floors; every arrow runs down (`tests/it/tidy.rs` holds the table):
//!
//! ```text
//! 9  main.rs  fuzz.rs            arguments in, exit code out · the parsers' doors for random bytes
//! 8  cli/                        one file a subcommand
//! 7  app/   simulator/   schema/  bind, start, wait, stop · the device's side of the wire · what is published of the types
//! 6  config/                     YAML and environment -> a Config that can run
//! 5  http/                       the device side, the operator side
//! 4  dhcp/ tftp/ netconsole/ bus/ images/ firmware/ switches/ labels/ metrics.rs     adapters: translate, never decide
//! 3  ledger/                     the neck: submit, follow, read; one thread holds the pen
//! 2  store/  script/  bootfiles/  paper (SQLite) · pure text (a session -> sh) · a name -> a boot file
//! 1  core/                       pure: values, decide, apply              telemetry.rs  trust.rs
//! ```
//!
//! # Where to start reading
//!
//! `core::floor` decides what follows from what happens; `ledger` writes it down and lets everyone read on;
//! `app` starts it all. A device's way: `dhcp` → `tftp` → `http::device` → `script` → reports → `core::floor::report`.

mod app;
mod bootfiles;
mod bus;
mod cli;
mod config;
mod core;
mod dhcp;
mod firmware;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod images;
mod labels;
mod ledger;
mod metrics;
mod netconsole;
mod schema;
mod script;
mod simulator;
mod store;
mod switches;
mod telemetry;
mod tftp;
mod trust;

pub use crate::cli::main;
