//! Where packet memory comes from: hugepages, or ordinary pages.

use std::fs;
use std::io;
use std::path::Path;
use std::ptr;

use super::{EalError, Hugepages};

/// Which memory the EAL runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMode {
    /// Hugepages, mapped without files (`--in-memory`).
    Hugepages,
    /// Ordinary pages, allocated once at start (`--no-huge`).
    NoHuge,
}

/// One size of hugepage and how many are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pages {
    bytes: u64,
    free: u64,
}

/// Decides on hugepages or not, for `memory_mib` MiB.
pub(super) fn choose(wish: Hugepages, memory_mib: u32) -> Result<MemoryMode, EalError> {
    if wish == Hugepages::Never {
        return Ok(MemoryMode::NoHuge);
    }
    let needed = u64::from(memory_mib) << 20;
    let sizes = free_pages(Path::new("/sys/kernel/mm/hugepages"));
    let free: u64 = sizes.iter().map(|pages| pages.bytes.saturating_mul(pages.free)).sum();
    let enough = sizes.iter().any(|pages| can_map(*pages, needed));
    match (enough, wish) {
        (true, _) => {
            tracing::info!(memory_mib, "packet memory is on hugepages");
            Ok(MemoryMode::Hugepages)
        }
        (false, Hugepages::Require) => {
            Err(EalError::NoHugepages { needed_mib: memory_mib, free_mib: free >> 20 })
        }
        (false, _) => {
            tracing::info!(
                memory_mib,
                free_hugepages_mib = free >> 20,
                "packet memory is on ordinary pages: there are not enough free hugepages of one size"
            );
            Ok(MemoryMode::NoHuge)
        }
    }
}

/// Reads `hugepages-<n>kB/free_hugepages` of each size.
fn free_pages(directory: &Path) -> Vec<Pages> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kib = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
        let free = fs::read_to_string(entry.path().join("free_hugepages")).ok();
        if let (Some(kib), Some(free)) = (kib, free.and_then(|free| free.trim().parse().ok())) {
            sizes.push(Pages { bytes: kib << 10, free });
        }
    }
    sizes
}

/// Whether that much can really be had: the count does not know of control-group limits or reservations, and
/// `rte_eal_init` cannot be tried twice. The mapping is never touched, so the kernel only reserves it.
fn can_map(pages: Pages, needed: u64) -> bool {
    if pages.bytes == 0 || pages.free.saturating_mul(pages.bytes) < needed {
        return false;
    }
    let Ok(length) = usize::try_from(needed.next_multiple_of(pages.bytes)) else { return false };
    let size_flag =
        libc::c_int::try_from(pages.bytes.trailing_zeros()).map_or(0, |log2| log2 << libc::MAP_HUGE_SHIFT);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | size_flag;
    // SAFETY: an anonymous mapping at an address of the kernel's choice, disturbing no other.
    let address =
        unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        tracing::debug!(error = %io::Error::last_os_error(), "free hugepages cannot be mapped");
        return false;
    }
    // SAFETY: the mapping just made, which nothing refers to.
    unsafe { libc::munmap(address, length) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_needs_no_hugepages_and_more_than_a_machine_has_is_refused_when_required() {
        assert_eq!(choose(Hugepages::Never, 64).unwrap(), MemoryMode::NoHuge);
        assert_eq!(choose(Hugepages::Auto, u32::MAX).unwrap(), MemoryMode::NoHuge);
        let refused = choose(Hugepages::Require, u32::MAX);
        assert!(matches!(refused, Err(EalError::NoHugepages { needed_mib: u32::MAX, .. })), "{refused:?}");
    }

    #[test]
    fn a_machine_without_hugetlbfs_has_no_pages() {
        assert_eq!(free_pages(Path::new("/nonexistent")), []);
    }
}
