//! room

pub mod packet;
pub mod transfer;
#[cfg(test)]
mod tests;
