//! Types, limits and extension structures.

use super::*;

#[test]
fn message_without_counterpart_is_named_and_one_cut_within_its_header_malformed() {
    let (four, six) = (four_packet(&(17, filler(40))), six_packet(&(17, filler(40))));
    for (kind, code, pointer) in
        [(8, 0, 0), (0, 0, 0), (4, 0, 0), (5, 1, 0), (13, 0, 0), (3, 14, 0), (12, 1, 0), (12, 0, 4)]
    {
        let message = icmp4(kind, code, pointer << 24, &four);
        assert_eq!(to_six(&message), Err(DropReason::IcmpUntranslatable), "{kind}/{code}");
    }
    for (kind, code, pointer) in
        [(128, 0, 0), (129, 0, 0), (135, 0, 0), (1, 5, 0), (4, 2, 0), (4, 0, 40), (100, 0, 0)]
    {
        let message = icmp6(kind, code, pointer, &six);
        assert_eq!(to_four(&message), Err(DropReason::IcmpUntranslatable), "{kind}/{code}");
    }
    for cut in 0..8 {
        assert_eq!(to_six(&icmp4(3, 3, 0, &four)[..cut]), Err(DropReason::TransportMalformed));
        assert_eq!(to_four(&icmp6(1, 4, 0, &six)[..cut]), Err(DropReason::TransportMalformed));
    }
}

#[test]
fn pointers_and_mtus_lie_where_their_version_has_them() {
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    // Octet 4 of ICMPv4, the second word of ICMPv6.
    assert_eq!(to_six(&icmp4(12, 0, 0x0900_0000, &four)).unwrap(), icmp6(4, 0, 6, &six));
    assert_eq!(to_four(&icmp6(4, 0, 6, &six)).unwrap(), icmp4(12, 0, 0x0900_0000, &four));
    assert_eq!(to_six(&icmp4(3, 2, 0, &four)).unwrap(), icmp6(4, 1, 6, &six));
    assert_eq!(to_four(&icmp6(4, 1, 6, &six)).unwrap(), icmp4(3, 2, 0, &four));
    // The lower half of ICMPv4's second word, all of ICMPv6's.
    assert_eq!(to_six(&icmp4(3, 4, 1400, &four)).unwrap(), icmp6(2, 0, 1420, &six));
    assert_eq!(to_four(&icmp6(2, 0, 1420, &six)).unwrap(), icmp4(3, 4, 1400, &four));
    // The quoted total length tells the plateau, however little is quoted.
    let mut long = four;
    long[2..4].copy_from_slice(&1500u16.to_be_bytes());
    let new = to_six(&icmp4(3, 4, 0, &long)).unwrap();
    assert_eq!((new[0], new[1], &new[4..8]), (2, 0, &1512u32.to_be_bytes()[..]));
    // A fragment is 8 bytes longer in IPv6; that is told to IPv4 only.
    let fields = ipv4::Fields { more_fragments: true, ..four_fields(17, 40) };
    let new = to_six(&icmp4(3, 4, 1400, &four_bytes(fields, &filler(40)))).unwrap();
    assert_eq!(new[4..8], 1420u32.to_be_bytes());
    let new = to_four(&icmp6(2, 0, 1420, &new[8..])).unwrap();
    assert_eq!(new[4..8], 1392u32.to_be_bytes());
}

#[test]
fn message_is_cut_to_what_its_version_allows() {
    let transport = opaque(253, 1500);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    for (quoted, kept) in [(1212, 1232), (1213, 1232), (1520, 1232), (1211, 1231)] {
        let new = to_six(&icmp4(3, 3, 0, &four[..quoted])).unwrap();
        assert_eq!(new, icmp6(1, 4, 0, &six[..kept]), "{quoted}");
    }
    for (quoted, kept) in [(568, 548), (569, 548), (1232, 548), (567, 547)] {
        let new = to_four(&icmp6(1, 4, 0, &six[..quoted])).unwrap();
        assert_eq!(new, icmp4(3, 3, 0, &four[..kept]), "{quoted}");
    }
}

#[test]
fn beginning_of_a_long_message_is_enough() {
    let transport = opaque(253, 9000);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    let whole = icmp4(3, 3, 0, &four);
    let new =
        error_to_six(&whole[..2300], Whole::of(&whole), ENDS, UNKNOWN, &Settings::default(), &Vnet).unwrap();
    assert_eq!(new.to_vec(), icmp6(1, 4, 0, &six[..1232]));
    let whole = icmp6(1, 4, 0, &six);
    let new =
        error_to_four(&whole[..2300], Whole::of(&whole), ENDS, UNKNOWN, &Settings::default(), &Vnet).unwrap();
    assert_eq!(new.to_vec(), icmp4(3, 3, 0, &four[..548]));
    // An extension structure that is not wholly at hand is left out.
    let whole = icmp4(3, 3, 32 << 16, &[&four[..128], &filler(100)].concat());
    let new =
        error_to_six(&whole[..200], Whole::of(&whole), ENDS, UNKNOWN, &Settings::default(), &Vnet).unwrap();
    assert_eq!(new.to_vec(), icmp6(1, 4, 0, &six[..148]));
}

/// One row: what is quoted, zeros behind it, the extension structure; the same on the other side.
type Row = (usize, usize, usize, usize, usize, usize);

#[test]
fn extension_structure_stays_whole_behind_a_quote_of_whole_units_of_at_least_128_bytes() {
    #[rustfmt::skip]
    let to_four_rows: [Row; 10] = [
        (152,  0,  20, 132,   0,  20),
        (122,  6,  20, 102,  26,  20),
        (128,  0, 420, 108,  20, 420),
        (128,  0, 421, 108,   0,   0), // leaves 127 bytes for the quote
        (528,  0,  40, 508,   0,  40),
        (536,  0,  40, 508,   0,  40),
        (1192, 0,  40, 508,   0,  40),
        (576,  0, 521, 548,   0,   0),
        (576,  0,  41, 504,   0,  41), // the quote in words of 4 bytes, the structure of any length
        (48,   0,  40,  28, 100,  40), // under 128 bytes, as some routers send it
    ];
    for row in to_four_rows {
        let (quoted, padding, structure, kept, zeros, left) = row;
        let transport = opaque(253, if padding == 0 { 1500 } else { quoted - 40 });
        let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
        let length = ((quoted + padding) / 8) as u32;
        let quote = [&six[..quoted], &vec![0; padding], &filler(structure)].concat();
        let new_quote = [&four[..kept], &vec![0; zeros], &filler(left)].concat();
        let new_length = if left == 0 { 0 } else { (kept + zeros) as u32 / 4 };
        for (old, new) in [((1, 4), (3, 3)), ((3, 0), (11, 0))] {
            let message = icmp6(old.0, old.1, length << 24, &quote);
            let expected = icmp4(new.0, new.1, new_length << 16, &new_quote);
            assert_eq!(to_four(&message).unwrap(), expected, "{row:?}");
        }
    }
    #[rustfmt::skip]
    let to_six_rows: [Row; 11] = [
        (132,  0,   20,  152,  0,   20),
        (126,  2,   20,  144,  0,   20), // 146 bytes do not fill units of 8
        (128,  0,   20,  144,  0,   20),
        (572,  0,  640,  592,  0,  640),
        (1020, 0,  192, 1040,  0,  192),
        (132,  0, 1080,  152,  0, 1080),
        (580,  0,  640,  592,  0,  640),
        (1020, 0,  200, 1032,  0,  200),
        (132,  0, 1104,  128,  0, 1104),
        (132,  0, 1105,  152,  0,    0), // leaves 127 bytes for the quote
        (28,   0,   40,   48, 80,   40), // under 128 bytes, as some routers send it
    ];
    for row in to_six_rows {
        let (quoted, padding, structure, kept, zeros, left) = row;
        let transport = opaque(253, if padding == 0 { 1500 } else { quoted - 20 });
        let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
        let length = ((quoted + padding) / 4) as u32;
        let quote = [&four[..quoted], &vec![0; padding], &filler(structure)].concat();
        let new_quote = [&six[..kept], &vec![0; zeros], &filler(left)].concat();
        let new_length = if left == 0 { 0 } else { (kept + zeros) as u32 / 8 };
        for (old, new) in [((3, 3), (1, 4)), ((11, 0), (3, 0))] {
            let message = icmp4(old.0, old.1, length << 16, &quote);
            let expected = icmp6(new.0, new.1, new_length << 24, &new_quote);
            assert_eq!(to_six(&message).unwrap(), expected, "{row:?}");
        }
    }
}

#[test]
fn extension_structure_is_left_out_where_the_other_type_has_no_length_attribute() {
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    let quote = [&four[..], &[0; 68], &filler(20)].concat();
    // Parameter problem, protocol unreachable, fragmentation needed; the padding goes as well.
    assert_eq!(to_six(&icmp4(12, 0, 0x0920_0000, &quote)).unwrap(), icmp6(4, 0, 6, &six));
    assert_eq!(to_six(&icmp4(3, 2, 0x0020_0000, &quote)).unwrap(), icmp6(4, 1, 6, &six));
    assert_eq!(to_six(&icmp4(3, 4, 0x0020_0578, &quote)).unwrap(), icmp6(2, 0, 1420, &six));
    // The first octet of an MTU or a pointer is no length attribute.
    let quote = [&six[..], &[0; 48], &filler(20)].concat();
    let new = to_four(&icmp6(2, 0, 0x1000_0000, &quote)).unwrap();
    assert_eq!(new, icmp4(3, 4, 65515, &[&four[..], &[0; 48], &filler(20)].concat()));
}

#[test]
fn length_attribute_that_leaves_no_room_for_a_structure_means_nothing() {
    let transport = opaque(253, 1500);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    for length in [0, 34, 35, 255] {
        let message = icmp4(3, 3, length << 16, &four[..136]);
        assert_eq!(to_six(&message).unwrap(), icmp6(1, 4, 0, &six[..156]), "{length}");
    }
    for length in [0, 18, 19, 255] {
        let message = icmp6(1, 4, length << 24, &six[..144]);
        assert_eq!(to_four(&message).unwrap(), icmp4(3, 3, 0, &four[..124]), "{length}");
    }
    // Nor is what fills the quote up to such a length padding then.
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    let message = icmp4(3, 3, 32 << 16, &[&four[..], &[0; 68]].concat());
    assert_eq!(to_six(&message).unwrap(), icmp6(1, 4, 0, &[&six[..], &[0; 68]].concat()));
}
