//! The subcommands: arguments in, exit code out.

pub mod cage;
pub mod demo;
pub mod interrupt;
pub mod simulate;
pub mod size;
pub mod tally;
pub mod tools;
