//! Managed switches: at which port a device is, and power for it. They are asked beside the line and never delay it.

pub mod client;
pub mod lookup;
mod oid;
pub mod power;
#[cfg(test)]
mod tests;
