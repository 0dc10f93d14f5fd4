//! Tables that workers read without locks while the control thread changes them.
//!
//! [`qsbr`] tells when memory that was unlinked is seen by no reader any more; [`published`] is a value swapped
//! whole; [`mapping`] is the table of mappings, [`flow`] that of flows. This is the only module of the crate with `unsafe` code.

mod compare;
pub mod flow;
pub mod mapping;
pub mod published;
pub mod qsbr;
mod region;
mod sync;

#[cfg(all(test, loom))]
mod model;

pub use mapping::{Mapping, MappingKey, MappingTable, MappingWriter, TableFull, mapping_table};
pub use published::Published;
pub use qsbr::{Domain, Grace, LimboFull, Reader, Stalled, TooManyReaders};
