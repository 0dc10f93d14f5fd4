//! The two tables of pointers (RFC 7915, figures 3 and 6).

use super::errors::*;
use super::{Row, down, down_refused, up, up_refused};

/// Figure 3, byte by byte of the IPv4 header.
const V4: [(u8, Option<u32>); 20] = [
    (0, Some(0)),
    (1, Some(1)),
    (2, Some(4)),
    (3, Some(4)),
    (4, None),
    (5, None),
    (6, None),
    (7, None),
    (8, Some(7)),
    (9, Some(6)),
    (10, None),
    (11, None),
    (12, Some(8)),
    (13, Some(8)),
    (14, Some(8)),
    (15, Some(8)),
    (16, Some(24)),
    (17, Some(24)),
    (18, Some(24)),
    (19, Some(24)),
];

/// Figure 6: from, to, and what they become.
const V6: [(u32, u32, Option<u32>); 8] = [
    (0, 0, Some(0)),
    (1, 1, Some(1)),
    (2, 3, None),
    (4, 5, Some(2)),
    (6, 6, Some(9)),
    (7, 7, Some(8)),
    (8, 23, Some(12)),
    (24, 39, Some(16)),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let (from, to) = quoted_by_alice();
    let (from, to) = (from.bytes(), to.bytes());
    for code in [0, 2] {
        let rest = (20..=255).map(|pointer| (pointer, None));
        for (pointer, becomes) in V4.into_iter().chain(rest) {
            let name = format!("figure 3, code {code}, pointer {pointer}");
            let packet = up_error((12, code, u32::from(pointer) << 24), &from);
            rows.push(match becomes {
                Some(pointer) => up(name, &packet, &up_error_becomes((4, 0, pointer), &to)),
                None => up_refused(name, &packet, "icmp_untranslatable", None),
            });
        }
    }
    let (from, to) = quoted_to_alice();
    let (from, to) = (from.bytes(), to.bytes());
    let listed =
        V6.into_iter().flat_map(|(first, last, becomes)| (first..=last).map(move |at| (at, becomes)));
    // Not listed: extension headers, what is quoted behind them, and values of which only the last byte is listed.
    let others =
        [40, 41, 48, 255, 256, 263, 0x0001_0007, 0x0700_0000, u32::MAX].map(|pointer| (pointer, None));
    for (pointer, becomes) in listed.chain(others) {
        let name = format!("figure 6, pointer {pointer}");
        let packet = down_error((4, 0, pointer), &from);
        rows.push(match becomes {
            Some(pointer) => down(name, &packet, &down_error_becomes((12, 0, pointer << 24), &to)),
            None => down_refused(name, &packet, "icmp_untranslatable", None),
        });
    }
    rows
}
