//! The core: pure values, `decide` and `apply`. No clock, no socket, no file, no runtime, no log.
//!
//! May import: std, serde, schemars, `serde_json` (params and event data are JSON values), uuid and time values; no other room.

pub mod address;
pub mod advice;
pub mod boot;
pub mod command;
pub mod delivery;
pub mod device;
pub mod event;
pub mod firmware;
pub mod floor;
pub mod form;
mod forms;
pub mod image;
pub mod job;
pub mod label;
pub mod observation;
pub mod params;
pub mod plan;
pub mod project;
pub mod refusal;
pub mod reply;
pub mod results;
pub mod role;
pub mod rule;
pub mod script;
pub mod session;
pub mod shown;
pub mod slot;
pub mod text;
pub mod time;
pub mod timeline;
pub mod token;
pub mod view;
