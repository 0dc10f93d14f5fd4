//! Packets as hexadecimal numbers, whose checksums were computed elsewhere: neither the builders nor the reference had a
//! hand in them.

use super::{Row, site};

/// A packet's name, whether it goes to IPv6, itself, and what it becomes.
type Golden = (&'static str, bool, &'static [&'static str], &'static [&'static str]);

const PACKETS: [Golden; 6] = [
    (
        "SYN with an MSS",
        true,
        &[
            "4500002c 43214000 4006e38d 0a00000a 0a000014 9c400050 10203040 01020304",
            "5002faf0 b8210000 020405b4",
        ],
        &[
            "60000000 0018063f fd000000 0000000a 04000007 0a00000a fd000000 0000000b",
            "14000007 0a000014 9c400050 10203040 01020304 5002faf0 a5fc0000 020405b4",
        ],
    ),
    (
        "UDP",
        false,
        &[
            "60000000 000f113f fd000000 0000000b 14000007 0a000014 fd000000 0000000a",
            "04000007 0a00000a 0fa00035 000f0f6e 6f766572 6c6179",
        ],
        &["45000023 11110000 3e11579c 0a000014 0a00000a 0fa00035 000f2193 6f766572", "6c6179"],
    ),
    (
        "echo request",
        true,
        &["45000021 43214000 4001e39d 0a00000a 0a000014 0800f7b4 00770003 70696e67", "21"],
        &[
            "60000000 000d3a3f fd000000 0000000a 04000007 0a00000a fd000000 0000000b",
            "14000007 0a000014 8000592a 00770003 70696e67 21",
        ],
    ),
    (
        "time exceeded, quoting eight bytes of TCP",
        true,
        &[
            "45000038 43214000 4001e386 0a00000a 0a000014 0b00180f 00000000 4500002c",
            "77770000 01062e38 0a000014 0a00000a 9c400050 10203040",
        ],
        &[
            "60000000 00383a3f fd000000 0000000a 04000007 0a00000a fd000000 0000000b",
            "14000007 0a000014 03006cfd 00000000 60000000 00180601 fd000000 0000000b",
            "14000007 0a000014 fd000000 0000000a 04000007 0a00000a 9c400050 10203040",
        ],
    ),
    (
        "port unreachable",
        false,
        &[
            "60000000 003f3a3f fd000000 0000000b 14000007 0a000014 fd000000 0000000a",
            "04000007 0a00000a 01046714 00000000 60000000 000f113c fd000000 0000000a",
            "04000007 0a00000a fd000000 0000000b 14000007 0a000014 0fa00035 000f0f6e",
            "6f766572 6c6179",
        ],
        &[
            "4500003f 11110000 3e015790 0a000014 0a00000a 0303113b 00000000 45000023",
            "22220000 3c11488b 0a00000a 0a000014 0fa00035 000f2193 6f766572 6c6179",
        ],
    ),
    (
        "first fragment of UDP",
        true,
        &["45000024 43212000 4011038b 0a00000a 0a000014 0fa00035 000f216f 6f766572", "6c617923"],
        &[
            "60000000 00182c3f fd000000 0000000a 04000007 0a00000a fd000000 0000000b",
            "14000007 0a000014 11000001 00004321 0fa00035 000f0f4a 6f766572 6c617923",
        ],
    ),
];

fn bytes(lines: &[&str]) -> Vec<u8> {
    let digits: Vec<u8> = lines.concat().bytes().filter(|digit| *digit != b' ').collect();
    let value = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(value).collect()
}

pub(super) fn rows() -> Vec<Row> {
    let row = |(name, to_six, packet, becomes): Golden| Row {
        name: format!("golden: {name}"),
        to_six,
        packet: bytes(packet),
        becomes: Ok(vec![bytes(becomes)]),
        site: site(),
    };
    PACKETS.map(row).to_vec()
}
