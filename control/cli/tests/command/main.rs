//! The `overlane` command from outside: what an operator types, and what comes back. One binary, linked once.

mod answers;
mod documents;
mod pki;
mod service;
mod support;
mod test_summary;
