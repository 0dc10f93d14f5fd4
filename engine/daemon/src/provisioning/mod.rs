//! Where the desired state comes from: the service's stream, a static file, or what was kept on disk.

pub mod desired;
pub mod model;
