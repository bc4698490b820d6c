//! The agent as its users meet it: the built binary, real brokers, real clients, real namespaces.

mod agent;
mod board;
mod broker;
mod errors;
mod http;
mod journey;
mod restart;
mod tidy;
