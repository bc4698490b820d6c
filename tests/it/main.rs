//! The agent as its users meet it: the built binary, real brokers, real clients, real namespaces.

#![expect(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod agent;
mod backup;
mod board;
mod bootfiles;
mod broker;
mod cage;
mod chaos;
mod check;
mod contract;
mod crash;
mod delivery;
mod demo;
mod disk;
mod erp;
mod errors;
mod firmware;
mod fleet;
mod fuzz;
mod http;
mod images;
mod journey;
mod labels;
mod line;
mod models;
mod mqtt;
mod net;
mod netconsole;
mod restart;
mod rules;
mod schema;
mod slots;
mod tidy;
mod timeline;
mod traffic;
mod transports;
