//! Source routes (RFC 7915, 4.1; RFC 791, 3.1): one with addresses left ends here, one that is used up is an option
//! like any other.

use super::{Row, answer, up, up_refused};
use crate::build::*;

pub(super) fn rows() -> Vec<Row> {
    let live: [(&str, &[u8]); 6] = [
        ("loose, first address next", &[131, 7, 4, 10, 0, 0, 1, 0]),
        ("strict, first address next", &[137, 7, 4, 10, 0, 0, 1, 0]),
        ("loose, last of two addresses next", &[131, 11, 8, 10, 0, 0, 1, 10, 0, 0, 2, 0]),
        ("strict, behind no operations", &[1, 1, 137, 7, 4, 10, 0, 0, 1, 0, 0, 0]),
        ("loose, behind a record route", &[7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 10, 0, 0, 1, 0, 0]),
        ("strict, behind a used-up loose one", &[131, 7, 8, 10, 0, 0, 1, 137, 7, 4, 10, 0, 0, 1, 0, 0]),
    ];
    let dead: [(&str, &[u8]); 5] = [
        ("loose, used up", &[131, 7, 8, 10, 0, 0, 1, 0]),
        ("strict, used up", &[137, 7, 8, 10, 0, 0, 1, 0]),
        ("loose, used up, two addresses", &[131, 11, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0]),
        ("behind the end of options", &[0, 131, 7, 4, 10, 0, 0, 1]),
        ("the inside of another option", &[0x9e, 8, 131, 7, 4, 10, 0, 0]),
    ];
    let packet = |options: &[u8]| V4 { options: options.to_vec(), ..v4(47, data(9)) };
    let live = live.map(|(name, options)| {
        let name = format!("4.1 source route failed: {name}");
        up_refused(name, &packet(options), "source_route", answer(3, 5, 0))
    });
    let dead = dead.map(|(name, options)| {
        up(format!("4.1 source route is ignored: {name}"), &packet(options), &v6(47, data(9)))
    });
    [live.to_vec(), dead.to_vec()].concat()
}
