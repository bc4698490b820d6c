//! room

pub mod answer;
pub mod ask;
pub mod packet;
pub mod pi;
#[cfg(test)]
mod tests;
