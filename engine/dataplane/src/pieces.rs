//! The bytes of a packet as they lie: over segments of any length, copied out in runs of another.

use crate::drop::DropReason;
use crate::packet::{Packet, Pool};

/// The bytes of a packet, taken from the front.
pub(crate) struct Pieces<'a, I> {
    segments: I,
    rest: &'a [u8],
}

/// The bytes of `packet` behind the first `skipped`.
pub(crate) fn behind(packet: &impl Packet, skipped: usize) -> Pieces<'_, impl Iterator<Item = &[u8]>> {
    let mut pieces = Pieces { segments: packet.segments(), rest: &[] };
    pieces.skip(skipped);
    pieces
}

impl<'a, I: Iterator<Item = &'a [u8]>> Pieces<'a, I> {
    /// At most `length` bytes that lie together; none at the end.
    fn take(&mut self, length: usize) -> &'a [u8] {
        while self.rest.is_empty() {
            let Some(segment) = self.segments.next() else { return &[] };
            self.rest = segment;
        }
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn skip(&mut self, mut length: usize) {
        while length > 0 {
            let taken = self.take(length).len();
            if taken == 0 {
                return;
            }
            length -= taken;
        }
    }

    /// Appends the next `length` bytes to `frame`, in as many segments of `pool` as they need.
    ///
    /// # Errors
    /// [`DropReason::FrameTruncated`] if there are fewer, [`DropReason::NoBuffer`] if there are too few segments.
    pub(crate) fn copy_to<K: Pool>(
        &mut self,
        pool: &K,
        frame: &mut K::Packet,
        mut length: usize,
    ) -> Result<(), DropReason> {
        while length > 0 {
            let taken = self.take(length);
            if taken.is_empty() {
                return Err(DropReason::FrameTruncated);
            }
            pool.append(frame, taken).map_err(|_| DropReason::NoBuffer)?;
            length -= taken.len();
        }
        Ok(())
    }
}
