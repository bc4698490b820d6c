//! The agent as its users meet it: the built binary, real brokers, real clients, real namespaces.

#![expect(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod agent;
mod board;
mod broker;
mod cage;
mod demo;
mod errors;
mod fleet;
mod http;
mod images;
mod journey;
mod net;
mod restart;
mod tidy;
