//! The agent as its users meet it: the built binary, real brokers, real clients, real namespaces.

mod tidy;
