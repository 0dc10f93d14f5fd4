//! What holds for any message.

use super::*;
use proptest::prelude::*;

/// Messages that mostly get somewhere: a likely type and a likely quote, and anything else anywhere.
fn hostile(six_side: bool) -> impl Strategy<Value = Vec<u8>> {
    let kinds = if six_side { vec![1u8, 2, 3, 4] } else { vec![3, 11, 12] };
    let numbers = prop::sample::select(vec![0u8, 1, 6, 17, 33, 43, 44, 50, 51, 58, 60, 136]);
    let header = (prop::sample::select(kinds), 0u8..6, any::<[u8; 4]>(), numbers, any::<u16>());
    let bytes = prop::collection::vec(any::<u8>(), 0..2300);
    (header, bytes).prop_map(move |((kind, code, second, number, length), behind)| {
        let mut message = vec![kind, code, 0x12, 0x34];
        message.extend(second);
        message.extend(behind);
        if six_side && message.len() >= 48 {
            message[8] = 0x60;
            message[12..14].copy_from_slice(&length.to_be_bytes());
            message[14] = number;
            message[16..32].copy_from_slice(&six(NODE).octets());
        } else if !six_side && message.len() >= 28 {
            message[8] = 0x45 + message[9] % 3;
            message[10..12].copy_from_slice(&length.to_be_bytes());
            message[17] = number;
            message[20..24].copy_from_slice(&NODE.octets());
        }
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Nothing panics, every message is within its limit, its length attribute is within it, and its checksum is as
    /// far from right as it was.
    #[test]
    fn any_icmpv4_message_is_refused_or_becomes_a_sound_one(message in hostile(false)) {
        let Ok(new) = error_to_six(&message, Whole::of(&message), ENDS, UNKNOWN, &Settings::default(), &Any) else { return Ok(()) };
        prop_assert!(new.len() <= MAX_SIX && new.len() >= 48);
        prop_assert_eq!(sum_six(&new) % 0xffff, sum_four(&message) % 0xffff);
        if matches!(new[0], 1 | 3) && new[4] != 0 {
            prop_assert!(new[4] >= 16 && 8 + usize::from(new[4]) * 8 < new.len());
        }
        prop_assert_eq!(new[8] >> 4, 6);
    }

    #[test]
    fn any_icmpv6_message_is_refused_or_becomes_a_sound_one(message in hostile(true)) {
        let Ok(new) = error_to_four(&message, Whole::of(&message), ENDS, UNKNOWN, &Settings::default(), &Any) else { return Ok(()) };
        prop_assert!(new.len() <= MAX_FOUR && new.len() >= 28);
        prop_assert_eq!(sum_four(&new) % 0xffff, sum_six(&message) % 0xffff);
        if new[5] != 0 {
            prop_assert!(new[5] >= 32 && 8 + usize::from(new[5]) * 4 < new.len());
        }
        prop_assert!(ipv4::Header::new_checked(&new[8..]).unwrap().is_checksum_right());
    }

    #[test]
    fn any_bytes_at_all_are_answered_without_panic(
        message in prop::collection::vec(any::<u8>(), 0..2300), length in any::<u16>(), sum in any::<u16>(),
    ) {
        let whole = Whole { length, sum };
        let _ = error_to_six(&message, whole, ENDS, UNKNOWN, &Settings::default(), &Any);
        let _ = error_to_four(&message, whole, ENDS, UNKNOWN, &Settings::default(), &Any);
        let _ = may_answer_ipv4(&message);
        let _ = may_answer_ipv6(&message);
    }

    /// There and back again: what both versions can say comes back as it was, checksums right or wrong.
    #[test]
    fn error_comes_back_as_it_went(
        which in 0usize..10,
        kind in prop::sample::select(vec![(3u8, 1u8), (3, 3), (3, 4), (3, 10), (11, 0), (11, 1), (12, 0), (3, 2)]),
        pointer in prop::sample::select(vec![0u8, 1, 2, 8, 9, 12, 16]),
        fragment in prop::option::of((0u16..8192, any::<bool>(), any::<u16>())),
        (tos, ttl, wrong, inner_wrong) in any::<(u8, u8, u16, u16)>(),
        cut in 0usize..100,
        extension in prop::option::of(1usize..100),
    ) {
        let mut transport = transports().swap_remove(which).four;
        if let Some(byte) = transport.1.get_mut(20) {
            *byte ^= inner_wrong as u8;
        }
        let mut fields = ipv4::Fields { tos, ttl, ..four_fields(transport.0, transport.1.len()) };
        // An MTU changes by more on the way back, when a fragment is quoted.
        let fragment = fragment.filter(|part| (part.0 > 0 || part.1) && kind != (3, 4));
        if let Some((offset, more, identification)) = fragment {
            fields = ipv4::Fields { fragment_offset: offset, more_fragments: more, identification, ..fields };
        }
        let mut quote = four_bytes(fields, &transport.1);
        quote.truncate(quote.len().saturating_sub(cut).max(21));
        let mut second = match kind {
            (12, 0) => u32::from(pointer) << 24,
            (3, 4) => 1300,
            _ => 0,
        };
        if let Some(extension) = extension.filter(|_| [(3, 1), (3, 3), (11, 0)].contains(&kind)) {
            quote.resize(128, 0);
            quote.extend(filler(extension));
            second = 32 << 16;
        }
        let mut message = icmp4(kind.0, kind.1, second, &quote);
        let checksum = u16::from_be_bytes([message[2], message[3]]);
        message[2..4].copy_from_slice(&checksum.wrapping_add(wrong).to_be_bytes());
        prop_assume!(sum_four(&message) != 0);

        let there = to_six(&message).unwrap();
        let back = to_four(&there).unwrap();
        // Both spellings of zero are right in a checksum.
        prop_assert_eq!(sum_four(&back), sum_four(&message));
        let mut back = back;
        if u16::from_be_bytes([back[2], back[3]]) % 0xffff == u16::from_be_bytes([message[2], message[3]]) % 0xffff {
            back[2..4].copy_from_slice(&message[2..4]);
        }
        prop_assert_eq!(back, message);
    }
}
