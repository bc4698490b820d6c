//! The agent as its users meet it: the built binary, real brokers, real clients, real namespaces.

mod agent;
mod board;
mod errors;
mod http;
mod journey;
mod tidy;
