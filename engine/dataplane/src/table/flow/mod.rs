//! The flow table: which flows there are, how far each has come, and what was said of it. Many workers, none of which
//! ever waits; no memory is taken after the beginning.
//!
//! ```text
//! two home buckets = two parts of a keyed hash
//!     bucket   | w0 | w1 | w2 | w3 | w4 | w5 | w6 | w7 |   64 bytes, compared at once
//!     word     | tag, 35 bits | tentative, 1 | entry's number, 28 |
//! entries      | key 16 | state 8 | judgement 8 |   32 bytes each
//! ```
//! A hit costs two dependent misses: the bucket, then the entry. What a packet changes is in the entry's state, one
//! atomic word for both directions.
//!
//! **No key is there twice.** Two workers may enter the same flow at once, as its directions may come to different ones.
//! So a new word is *tentative*: no look-up sees it. Who has put it there looks at all places where the key may be, and
//! settles it only if it is alone. If there is a settled one, all tentative ones are taken out. Among tentative ones the
//! first place wins: the others are taken out before it is settled. Whoever sees a tentative word may do so, not only who
//! put it there: nobody waits for anybody. Why two cannot both be settled: who settles a word has, in this order, seen
//! it, passed a full fence, and looked at all places. Of two workers that settle two words, one passes its fence later,
//! and sees the other's word: then it takes that one out, or does not settle its own.
//!
//! **No entry is another key's under a reader.** A key is written before its entry is linked, and an entry is used
//! again only when every worker has quiesced since it was unlinked. So no word comes back while a worker may still
//! compare it with one that it saw. Who takes a word out of its bucket, and nobody else, retires the entry.
//!
//! **When there is no room**, a flow makes way: one in the same buckets that is over, else closing, else half open, else
//! the one that has been idle longest. Entries need a grace period before they can be used again; each worker keeps some
//! in reserve and makes room before it has run out.

mod account;
mod entry;
mod key;
mod lines;
mod pool;
mod state;
mod stats;
mod table;
mod worker;

pub use account::Account;
pub use entry::{Flow, NewFlow, Observed};
pub use key::{Direction, End, FlowKey};
pub use state::{Progress, Sign, Tick, Timeouts};
pub use stats::{FlowStats, FlowTotals};
pub use table::{FlowLimits, FlowQuery, FlowTable, FlowView};
pub use worker::{FlowWorker, Full};

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod oracle;
#[cfg(all(test, not(loom)))]
mod stress;
#[cfg(all(test, not(loom)))]
mod tests;
