//! The one thread.
