//! bootline
#![allow(dead_code, unused)]
mod app; mod bus; pub mod cli; mod config; mod core; mod dhcp; mod http; mod images; mod ledger; mod metrics; mod script; mod simulator; mod store; mod telemetry; mod tftp;
