//! Printers that take, refuse, hang and vanish.
