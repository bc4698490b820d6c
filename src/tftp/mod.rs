//! room

pub mod packet;
