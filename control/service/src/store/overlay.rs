//! Opens a file without ever writing to it: what would be written stays in memory.
//!
//! Opening a database may repair it, and a repair writes. Whether a file is sound is therefore tried out on this
//! first; only then is it opened for real. A damaged file stays as it is, for whoever has to rescue it.

use parking_lot::Mutex;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;

/// A file seen through an overlay of pages that were written since.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    file_length: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, file_length: length, state: Mutex::new(State { length, pages: BTreeMap::new() }) })
    }

    /// A page as the file has it; behind the file's end there are zeros.
    fn file_page(&self, index: u64) -> io::Result<Box<[u8; PAGE as usize]>> {
        let mut page = Box::new([0; PAGE as usize]);
        let start = index * PAGE;
        let there = self.file_length.saturating_sub(start).min(PAGE) as usize;
        if let Some(part) = page.get_mut(..there) {
            self.file.read_exact_at(part, start)?;
        }
        Ok(page)
    }
}

/// Calls `each` with (page, range in the page, range in the buffer) for every page that is touched.
fn pages(
    offset: u64,
    length: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let part = (PAGE as usize - within).min(length - done);
        each(at / PAGE, within..within + part, done..done + part)?;
        done += part;
    }
    Ok(())
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends too early")
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state.lock();
        let end = offset.checked_add(out.len() as u64).ok_or_else(outside)?;
        if end > state.length {
            return Err(outside());
        }
        pages(offset, out.len(), |index, within, place| {
            let from_file;
            let page = match state.pages.get(&index) {
                Some(page) => page,
                None => {
                    from_file = self.file_page(index)?;
                    &from_file
                }
            };
            if let (Some(to), Some(from)) = (out.get_mut(place), page.get(within)) {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut state = self.state.lock();
        if length < state.length {
            // What is cut off and grown again must read as zeros, also where the file has bytes.
            let first = length / PAGE;
            let last = state.length.div_ceil(PAGE);
            for index in first..last {
                let mut page = match state.pages.remove(&index) {
                    Some(page) => page,
                    None => self.file_page(index)?,
                };
                let keep = length.saturating_sub(index * PAGE).min(PAGE) as usize;
                if let Some(cut) = page.get_mut(keep..) {
                    cut.fill(0);
                }
                state.pages.insert(index, page);
            }
        }
        state.length = length;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state.lock();
        let end = offset.checked_add(data.len() as u64).ok_or_else(outside)?;
        if end > state.length {
            return Err(outside());
        }
        pages(offset, data.len(), |index, within, place| {
            let page = match state.pages.entry(index) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(place) => place.insert(self.file_page(index)?),
            };
            if let (Some(to), Some(from)) = (page.get_mut(within), data.get(place)) {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn writes_and_cuts_are_seen_and_never_reach_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let original: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        file.write_all(&original).unwrap();
        let overlay = Overlay::new(file.reopen().unwrap()).unwrap();

        let mut oracle = original.clone();
        overlay.write(4090, &[9; 20]).unwrap();
        oracle[4090..4110].fill(9);
        overlay.set_len(5000).unwrap();
        oracle.truncate(5000);
        overlay.set_len(20_000).unwrap();
        oracle.resize(20_000, 0);
        overlay.write(19_990, &[7; 10]).unwrap();
        oracle[19_990..].fill(7);

        let mut seen = vec![0; 20_000];
        overlay.read(0, &mut seen).unwrap();
        assert_eq!(seen, oracle);
        assert!(overlay.read(19_999, &mut [0; 2]).is_err());
        assert!(overlay.write(19_999, &[0; 2]).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), original);
    }
}
