//! Quoted packets.

use super::*;
use crate::wire::fragment;

#[test]
fn quoted_packet_of_each_transport_is_that_of_the_other_side() {
    for transport in transports() {
        let four = icmp4(3, 3, 0, &four_packet(&transport.four));
        let six = icmp6(1, 4, 0, &six_packet(&transport.six));
        assert_eq!(to_six(&four).unwrap(), six, "{}", transport.four.0);
        assert_eq!(to_four(&six).unwrap(), four, "{}", transport.four.0);
    }
}

#[test]
fn quote_may_be_cut_off_anywhere_behind_its_header() {
    for transport in transports() {
        let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
        // The type of an ICMP message has to be there: it might be an error.
        let least = usize::from(transport.four.0 == protocol::ICMP);
        let behind = transport.four.1.len();
        for cut in 0..20 + least {
            assert_eq!(to_six(&icmp4(11, 0, 0, &four[..cut])), Err(DropReason::IcmpQuoteInvalid), "{cut}");
        }
        for cut in 0..40 + least {
            assert_eq!(to_four(&icmp6(3, 0, 0, &six[..cut])), Err(DropReason::IcmpQuoteInvalid), "{cut}");
        }
        for cut in least..=behind {
            let (mut four, mut six) = (four[..20 + cut].to_vec(), six[..40 + cut].to_vec());
            let (there, back) = (to_six(&icmp4(11, 0, 0, &four)), to_four(&icmp6(3, 0, 0, &six)));
            if let Some(place) = transport.checksum.filter(|place| cut == place + 1) {
                // Half of a checksum stays as it was.
                core::mem::swap(&mut four[20 + place], &mut six[40 + place]);
            }
            assert_eq!(there.unwrap(), icmp6(3, 0, 0, &six), "{} {cut}", transport.four.0);
            assert_eq!(back.unwrap(), icmp4(11, 0, 0, &four), "{} {cut}", transport.four.0);
        }
    }
}

#[test]
fn wrong_quoted_checksum_stays_as_wrong_and_none_stays_none() {
    let Transport { mut four, mut six, .. } = sealed(protocol::UDP, 6, 40);
    four.1[20] ^= 0xff;
    six.1[20] ^= 0xff;
    let (four, six) = (icmp4(3, 3, 0, &four_packet(&four)), icmp6(1, 4, 0, &six_packet(&six)));
    assert_eq!(to_six(&four).unwrap(), six);
    assert_eq!(to_four(&six).unwrap(), four);

    for number in [protocol::UDP, protocol::UDP_LITE] {
        let mut none = opaque(number, 40);
        none.four.1[6..8].fill(0);
        none.six.1[6..8].fill(0);
        let (four, six) = (icmp4(3, 3, 0, &four_packet(&none.four)), icmp6(1, 4, 0, &six_packet(&none.six)));
        assert_eq!(to_six(&four).unwrap(), six);
        assert_eq!(to_four(&six).unwrap(), four);
    }
}

#[test]
fn quoted_udp_checksum_that_comes_to_zero_is_spelled_as_ones() {
    let Transport { mut four, mut six, .. } = sealed(protocol::UDP, 6, 40);
    // One more word makes the whole sum up to ones without a checksum, on one side and then on the other.
    let fill = |payload: &mut (u8, Vec<u8>), sum: Sum| {
        payload.1[6..10].fill(0);
        let missing = sum.add_bytes(&payload.1).checksum();
        payload.1[8..10].copy_from_slice(&missing.to_be_bytes());
        payload.1[6..8].fill(0xff);
        missing
    };
    let missing = fill(&mut six, pseudo_six(17, 40));
    four.1[8..10].copy_from_slice(&missing.to_be_bytes());
    seal_at(&mut four.1, 6, pseudo_four(17, 40));
    let message = to_six(&icmp4(3, 3, 0, &four_packet(&four))).unwrap();
    assert_eq!(message, icmp6(1, 4, 0, &six_packet(&six)));

    let missing = fill(&mut four, pseudo_four(17, 40));
    six.1[8..10].copy_from_slice(&missing.to_be_bytes());
    seal_at(&mut six.1, 6, pseudo_six(17, 40));
    let message = to_four(&icmp6(1, 4, 0, &six_packet(&six))).unwrap();
    assert_eq!(message, icmp4(3, 3, 0, &four_packet(&four)));
}

#[test]
fn quoted_fragment_has_a_fragment_header_on_the_ipv6_side_only() {
    for (offset, more) in [(0, true), (185, true), (185, false), (8191, false)] {
        for transport in transports() {
            let mut transport = transport;
            let (number, payload) = &mut transport.four;
            let mut six_payload = transport.six.1.clone();
            if *number == protocol::ICMP && offset == 0 {
                // No fragment tells the length that the pseudo-header has.
                seal_at(&mut six_payload, 2, pseudo_six(58, 0));
            }
            if offset != 0 {
                six_payload.clone_from(payload);
            }
            let fields = four_fields(*number, payload.len());
            let fields = ipv4::Fields {
                more_fragments: more,
                fragment_offset: offset,
                identification: 0xbeef,
                dont_fragment: false,
                ..fields
            };
            let four = icmp4(11, 1, 0, &four_bytes(fields, payload));
            let mut header = [0; 8];
            let next_header = transport.six.0;
            fragment::Fields { next_header, offset, more_fragments: more, identification: 0xbeef }
                .emit(&mut header);
            let behind = [&header[..], &six_payload].concat();
            let six = icmp6(3, 1, 0, &six_packet(&(protocol::FRAGMENT, behind)));
            assert_eq!(to_six(&four).unwrap(), six, "{number} {offset} {more}");
            assert_eq!(to_four(&six).unwrap(), four, "{number} {offset} {more}");
        }
    }
}

#[test]
fn atomic_fragment_keeps_the_lower_half_of_its_identification() {
    let mut transport = sealed(protocol::UDP, 6, 40);
    let header = [protocol::UDP, 0, 0, 0, 0x12, 0x34, 0xbe, 0xef];
    transport.six.1.splice(0..0, header);
    let six = icmp6(1, 4, 0, &six_packet(&(protocol::FRAGMENT, transport.six.1)));
    let fields = ipv4::Fields { identification: 0xbeef, ..four_fields(protocol::UDP, 40) };
    assert_eq!(to_four(&six).unwrap(), icmp4(3, 3, 0, &four_bytes(fields, &transport.four.1)));
}

#[test]
fn quoted_packet_that_fits_any_ipv6_link_may_be_cut_and_so_may_a_fragment() {
    let flags = |next_header, behind: &[u8]| {
        let message = to_four(&icmp6(1, 4, 0, &six_packet(&(next_header, behind.to_vec())))).unwrap();
        u16::from_be_bytes([message[8 + 6], message[8 + 7]])
    };
    assert_eq!(flags(253, &filler(1240)), 0);
    assert_eq!(flags(253, &filler(1241)), 0x4000);
    let first = [253, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(flags(protocol::FRAGMENT, &[&first[..], &filler(1400)].concat()), 0x2000);
}

#[test]
fn atomic_fragment_of_an_echo_tells_its_length() {
    let mut transport = echo(8, 128, 40);
    transport.six.1.splice(0..0, [protocol::ICMPV6, 0, 0, 0, 0, 0, 0, 7]);
    let six = icmp6(1, 0, 0, &six_packet(&(protocol::FRAGMENT, transport.six.1)));
    let fields = ipv4::Fields { identification: 7, ..four_fields(protocol::ICMP, 40) };
    assert_eq!(to_four(&six).unwrap(), icmp4(3, 1, 0, &four_bytes(fields, &transport.four.1)));
}

#[test]
fn quoted_options_and_extension_headers_stay_behind() {
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));

    // A source route with addresses left among them: the error is about a packet that has been sent already.
    let mut with_options =
        four_packet(&(protocol::UDP, [&[131, 7, 4, 10, 0, 0, 3, 0][..], &transport.four.1].concat()));
    with_options[0] = 0x47;
    assert_eq!(to_six(&icmp4(3, 5, 0, &with_options)).unwrap(), icmp6(1, 0, 0, &six));

    let hop_by_hop = [60, 1, 1, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0];
    let destination_options = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [protocol::UDP, 2, 4, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let chain = [&hop_by_hop[..], &destination_options, &routing, &transport.six.1].concat();
    let message = icmp6(3, 0, 0, &six_packet(&(protocol::HOP_BY_HOP, chain)));
    assert_eq!(to_four(&message).unwrap(), icmp4(11, 0, 0, &four));
    // Cut off within them, the packet cannot be told.
    for cut in 40..40 + 16 + 8 + 24 {
        let message = icmp6(3, 0, 0, &message[8..8 + cut]);
        assert_eq!(to_four(&message), Err(DropReason::IcmpQuoteInvalid), "{cut}");
    }
}

#[test]
fn quoted_packet_that_could_not_have_crossed_is_refused() {
    let refused = Err(DropReason::IcmpQuoteInvalid);
    let payload = |kind: u8| [&[kind, 0][..], &filler(30)].concat();
    for kind in (0..=255).filter(|kind| ![0, 8].contains(kind)) {
        assert_eq!(to_six(&icmp4(3, 1, 0, &four_packet(&(1, payload(kind))))), refused, "{kind}");
    }
    for kind in (0..=255).filter(|kind| ![128, 129].contains(kind)) {
        assert_eq!(to_four(&icmp6(1, 0, 0, &six_packet(&(58, payload(kind))))), refused, "{kind}");
    }
    for number in [0, 43, 44, 51, 58, 60, 135, 139, 140] {
        assert_eq!(to_six(&icmp4(3, 1, 0, &four_packet(&(number, payload(0))))), refused, "{number}");
    }
    for number in [1, 51, 135, 139, 140] {
        assert_eq!(to_four(&icmp6(1, 0, 0, &six_packet(&(number, payload(0))))), refused, "{number}");
    }
    // As of packets, at most eight extension headers, and hop-by-hop options first.
    for (count, expected) in [(8, true), (9, false)] {
        let mut chain = [protocol::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        chain[count * 8 - 8] = 253;
        let result = to_four(&icmp6(1, 0, 0, &six_packet(&(protocol::DESTINATION_OPTIONS, chain))));
        assert_eq!(result.is_ok(), expected, "{count}");
    }
    let chain = [[protocol::HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0], [253, 0, 1, 4, 0, 0, 0, 0]].concat();
    assert_eq!(to_four(&icmp6(1, 0, 0, &six_packet(&(protocol::DESTINATION_OPTIONS, chain)))), refused);
    // Segments left; an extension header behind the fragment header; headers longer than the packet.
    let six = |number, header: [u8; 8]| {
        to_four(&icmp6(1, 0, 0, &six_packet(&(number, [&header[..], &filler(40)].concat()))))
    };
    assert_eq!(six(protocol::ROUTING, [17, 0, 4, 1, 0, 0, 0, 0]), refused);
    assert!(six(protocol::ROUTING, [17, 0, 4, 0, 0, 0, 0, 0]).is_ok());
    assert_eq!(six(protocol::FRAGMENT, [60, 0, 0, 1, 0, 0, 0, 0]), refused);
    assert!(six(protocol::FRAGMENT, [17, 0, 0, 1, 0, 0, 0, 0]).is_ok());
    assert_eq!(
        six(protocol::HOP_BY_HOP, [17, 5, 0, 0, 0, 0, 0, 0]),
        Ok(to_four(&icmp6(1, 0, 0, &six_packet(&(17, vec![])))).unwrap())
    );
    assert_eq!(six(protocol::HOP_BY_HOP, [17, 6, 0, 0, 0, 0, 0, 0]), refused);
    let mut short =
        six_packet(&(protocol::HOP_BY_HOP, [&[17, 0, 1, 4, 0, 0, 0, 0][..], &filler(40)].concat()));
    short[4..6].copy_from_slice(&[0, 7]);
    assert_eq!(to_four(&icmp6(1, 0, 0, &short)), refused);
    // 65,535 bytes behind the IPv6 header are more than an IPv4 packet has.
    let mut long = six_packet(&(17, filler(40)));
    long[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(to_four(&icmp6(1, 0, 0, &long)), refused);
    // The wrong IP version, and an IPv4 packet shorter than its header.
    assert_eq!(to_six(&icmp4(3, 1, 0, &six_packet(&(17, filler(40))))), refused);
    assert_eq!(to_four(&icmp6(1, 0, 0, &four_packet(&(17, filler(40))))), refused);
    let mut short = four_packet(&(17, filler(40)));
    short[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(to_six(&icmp4(3, 1, 0, &short)), refused);
}

#[test]
fn quoted_packet_that_its_receiver_has_not_sent_is_foreign() {
    let fields = four_fields(17, 40);
    let other = ipv4::Fields { source: PEER, destination: NODE, ..fields };
    assert_eq!(to_six(&icmp4(3, 1, 0, &four_bytes(other, &filler(40)))), Err(DropReason::IcmpQuoteForeign));
    let fields = six_fields(17, 40);
    let other = ipv6::Fields { source: six(PEER), destination: six(NODE), ..fields };
    assert_eq!(to_four(&icmp6(1, 0, 0, &six_bytes(other, &filler(40)))), Err(DropReason::IcmpQuoteForeign));
}

#[test]
fn quoted_traffic_class_follows_the_settings() {
    let settings = Settings { copy_traffic_class: false, ..Settings::default() };
    let payload = filler(40);
    let (four, six) = (four_packet(&(253, payload.clone())), six_packet(&(253, payload.clone())));
    let message = icmp4(3, 1, 0, &four);
    let new = error_to_six(&message, Whole::of(&message), ENDS, UNKNOWN, &settings, &Vnet).unwrap();
    let zero = six_bytes(ipv6::Fields { traffic_class: 0, ..six_fields(253, 40) }, &payload);
    assert_eq!(new.to_vec(), icmp6(1, 0, 0, &zero));
    let message = icmp6(1, 0, 0, &six);
    let new = error_to_four(&message, Whole::of(&message), ENDS, UNKNOWN, &settings, &Vnet).unwrap();
    let zero = four_bytes(ipv4::Fields { tos: 0, ..four_fields(253, 40) }, &payload);
    assert_eq!(new.to_vec(), icmp4(3, 1, 0, &zero));
}

#[test]
fn quoted_address_without_counterpart_is_foreign() {
    for place in [12, 16] {
        let mut quote = four_packet(&(17, filler(40)));
        quote[place] = 11;
        assert_eq!(to_six(&icmp4(3, 1, 0, &quote)), Err(DropReason::IcmpQuoteForeign));
    }
    for place in [8, 24] {
        let mut quote = six_packet(&(17, filler(40)));
        quote[place] = 0xfc;
        assert_eq!(to_four(&icmp6(1, 0, 0, &quote)), Err(DropReason::IcmpQuoteForeign));
    }
}
