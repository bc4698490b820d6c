//! room

pub mod bootfiles;
pub mod packet;
pub mod transfer;
#[cfg(test)]
mod tests;
