//! The agent as its users meet it: the built binary, real brokers, real clients, real namespaces.

#![expect(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod agent;
mod board;
mod bootfiles;
mod broker;
mod cage;
mod command_line;
mod demo;
mod errors;
mod firmware;
mod fleet;
mod fuzz;
mod http;
mod images;
mod journey;
mod line;
mod listeners;
mod models;
mod net;
mod netconsole;
mod rest;
mod restart;
mod rules;
mod tidy;
mod timeline;
