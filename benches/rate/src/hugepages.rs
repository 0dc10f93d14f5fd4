//! Hugepages for both sides: those that are free, or ones that are reserved for the time of the run.

use std::fs;
use std::path::Path;

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const PAGE_MIB: u64 = 2;

/// Whether both sides are on hugepages; gives back, when it goes, what was reserved for that.
#[derive(Debug)]
pub(crate) struct Hugepages {
    /// How many there were, if that was changed.
    before: Option<u64>,
    enough: bool,
}

impl Hugepages {
    /// Makes sure of `mib` MiB on hugepages of 2 MiB, and says on standard error what was done.
    pub(crate) fn reserve(mib: u64) -> Self {
        let needed = mib.div_ceil(PAGE_MIB);
        let free = || read(FREE).unwrap_or(0);
        if free() >= needed {
            return Self { before: None, enough: true };
        }
        let mut pages = Self { before: None, enough: false };
        if let Some(before) = read(RESERVED) {
            let wanted = before + needed - free();
            if fs::write(RESERVED, wanted.to_string()).is_ok() {
                pages.before = Some(before);
                pages.enough = free() >= needed;
                eprintln!("vm.nr_hugepages: {wanted} instead of {before} for the time of this run");
            }
        }
        if !pages.enough {
            eprintln!(
                "WARNING: {needed} hugepages of 2 MiB are needed and {} are free: everything runs on ordinary \
                 pages, and rows are marked. Both sides are slower there",
                free()
            );
        }
        pages
    }

    /// Whether there is enough.
    pub(crate) fn enough(&self) -> bool {
        self.enough
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        match fs::write(RESERVED, before.to_string()) {
            Ok(()) => eprintln!("vm.nr_hugepages: {before} again"),
            Err(error) => eprintln!("WARNING: vm.nr_hugepages was {before} and cannot be set back: {error}"),
        }
    }
}

fn read(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
