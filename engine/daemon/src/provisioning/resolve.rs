//! Mappings that the service is asked for one by one.

use super::model::Target;
use super::wire::Resolution;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A mapping that one of this host's interfaces needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// The interface's id.
    pub interface: Arc<str>,
    /// Whose mapping.
    pub target: Target,
}

/// What became of a request: what the service says, or why it says nothing; for people.
pub type Resolved = Result<Resolution, String>;

/// Requests that wait for the client.
const REQUESTS: usize = 256;

/// The way of requests to the client.
#[must_use]
pub fn channel() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(REQUESTS)
}
