//! Transports (RFC 7915, 4.5 and 5.5): checksums over the addresses, and everything else byte for byte.

use super::{Row, down, down_refused, up, up_refused};
use crate::build::*;

pub(super) fn rows() -> Vec<Row> {
    [checksummed(), zero(), malformed(), others()].concat()
}

/// A DCCP packet of the longest generic header (RFC 4340, 5.1), of four words.
fn dccp(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x13, 0x88, 0x13, 0x89, 4, 0, 0, 0, 0x05, 0, 1, 2, 3, 4, 5, 6];
    packet.extend(payload);
    packet
}

/// UDP-Lite that covers all of its packet (RFC 3828, 3.1).
fn udp_lite(payload: &[u8]) -> Vec<u8> {
    let mut packet = udp(payload);
    packet[4..6].fill(0);
    packet
}

/// Adds to the checksum in one's complement: it is wrong by so much then.
fn wrong(payload: &mut [u8], place: usize, error: u16) {
    let field = u32::from(u16::from_be_bytes([payload[place], payload[place + 1]])) + u32::from(error);
    let field = ((field & 0xffff) + (field >> 16)) as u16;
    // What a translator writes is a number below 0xffff, or 0xffff for what would be 0.
    payload[place..place + 2].copy_from_slice(&(field % 0xffff).to_be_bytes());
}

/// A transport's name, number, place of the checksum, and builder.
type Kind = (&'static str, u8, usize, fn(&[u8]) -> Vec<u8>);

fn checksummed() -> Vec<Row> {
    let kinds: [Kind; 4] =
        [("TCP", 6, 16, tcp), ("UDP", 17, 6, udp), ("UDP-Lite", 136, 6, udp_lite), ("DCCP", 33, 6, dccp)];
    let mut rows = Vec::new();
    for (name, number, place, make) in kinds {
        for length in [0, 1, 2, 3, 100, 1001, 1400] {
            let payload = make(&data(length));
            let (v4, v6) = (v4(number, payload.clone()).sealed(place), v6(number, payload).sealed(place));
            rows.push(up(format!("4.5 {name} checksum, {length} bytes"), &v4, &v6));
            let flags = if v4.payload.len() > 1240 { DONT_FRAGMENT } else { 0 };
            let (v4, v6) = (V4 { flags, ..v4.back() }.sealed(place), v6.back().sealed(place));
            rows.push(down(format!("5.5 {name} checksum, {length} bytes"), &v6, &v4));
        }
        for error in [1, 0x00ff, 0x0100, 0x8000, 0xfffe] {
            let payload = make(&data(33));
            let mut v4 = v4(number, payload.clone()).sealed(place);
            let mut v6 = v6(number, payload).sealed(place);
            wrong(&mut v4.payload, place, error);
            wrong(&mut v6.payload, place, error);
            rows.push(up(format!("4.5 {name} checksum wrong by {error:#06x} stays so"), &v4, &v6));
            rows.push(down(
                format!("5.5 {name} checksum wrong by {error:#06x} stays so"),
                &v6.back(),
                &v4.back(),
            ));
        }
    }
    // Echo: its checksum covers no address in IPv4.
    let message = |kind| icmp(kind, 0, 7, &data(33));
    let (mut four, mut six) = (v4(1, message(8)).sealed(2), v6(58, message(128)).sealed(2));
    wrong(&mut four.payload, 2, 0x1234);
    wrong(&mut six.payload, 2, 0x1234);
    rows.push(up("4.2 echo checksum wrong by 0x1234 stays so", &four, &six));
    rows.push(down("5.2 echo checksum wrong by 0x1234 stays so", &six.back(), &four.back()));
    // UDP-Lite that covers its header only, and one that covers a part of the payload.
    for coverage in [8u16, 12] {
        let mut payload = udp_lite(&data(33));
        payload[4..6].copy_from_slice(&coverage.to_be_bytes());
        let (mut from, mut to) = (v4(136, payload.clone()), v6(136, payload));
        let covered = usize::from(coverage);
        let rest = from.payload.split_off(covered);
        to.payload.truncate(covered);
        // The pseudo-header has the length of the whole packet (RFC 3828, 3.1), whatever is covered.
        let whole = covered + rest.len();
        (from, to) = (sealed_v4_as(from, whole), to.sealed_as(6, whole));
        from.payload.extend(&rest);
        to.payload.extend(&rest);
        rows.push(up(format!("4.5 UDP-Lite that covers {coverage} bytes"), &from, &to));
        rows.push(down(format!("5.5 UDP-Lite that covers {coverage} bytes"), &to.back(), &from.back()));
    }
    rows
}

/// Seals a packet at 6 with another length in the pseudo-header: the difference, added to the checksum.
fn sealed_v4_as(packet: V4, length: usize) -> V4 {
    let more = (length - packet.payload.len()) as u16;
    let mut packet = packet.sealed(6);
    wrong(&mut packet.payload, 6, !more);
    packet
}

fn zero() -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [0, 1, 2, 512, 1400] {
        let (from, to) = (v4(17, udp(&data(length))), v6(17, udp(&data(length))).sealed(6));
        rows.push(up(format!("4.5 UDP checksum is computed, {length} bytes"), &from, &to));
        let name = format!("4.5 UDP without checksum is refused when so configured, {length} bytes");
        let row = up_refused(name, &from, "udp_checksum_zero", None);
        rows.push(row.with(|site| site.compute_udp_checksum = false));
    }
    // Bytes behind the UDP length are no part of the datagram (RFC 768).
    let (mut from, mut to) = (v4(17, udp(&data(20))), v6(17, udp(&data(20))).sealed(6));
    from.payload.extend([0xaa; 5]);
    to.payload.extend([0xaa; 5]);
    rows.push(up("4.5 UDP checksum is computed over the UDP length", &from, &to));
    let from = v6(17, udp(&data(20))).back();
    rows.push(down_refused("UDP without checksum is not legal in IPv6", &from, "udp_checksum_zero", None));
    // Payloads that make the sum come out as 0: computed, carried up, carried down.
    let mut payload = udp(&[0, 0]);
    let to = v6(17, payload.clone()).sealed(6);
    payload[8..10].copy_from_slice(&to.payload[6..8]);
    let mut to = v6(17, payload.clone());
    to.payload[6..8].fill(0xff);
    rows.push(up("4.5 computed UDP checksum of 0 is written as 0xffff", &v4(17, payload.clone()), &to));
    rows.push(up(
        "4.5 UDP checksum that becomes 0 is written as 0xffff",
        &v4(17, payload.clone()).sealed(6),
        &to,
    ));
    let mut payload = udp(&[0, 0]);
    let to = v4(17, payload.clone()).back().sealed(6);
    payload[8..10].copy_from_slice(&to.payload[6..8]);
    let mut to = v4(17, payload.clone()).back();
    to.payload[6..8].fill(0xff);
    let from = v6(17, payload).back().sealed(6);
    rows.push(down("5.5 UDP checksum that becomes 0 is written as 0xffff", &from, &to));
    rows
}

fn malformed() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &str, number: u8, payload: Vec<u8>| {
        let name = |direction: &str| format!("{direction} {name} is refused");
        rows.push(up_refused(name("4.5"), &v4(number, payload.clone()), "transport_malformed", None));
        rows.push(down_refused(name("5.5"), &v6(number, payload).back(), "transport_malformed", None));
    };
    for length in [0, 1, 19] {
        row(&format!("TCP of {length} bytes"), 6, tcp(&[])[..length].to_vec());
    }
    for length in [0, 1, 7] {
        row(&format!("UDP of {length} bytes"), 17, udp(&[])[..length].to_vec());
        row(&format!("UDP-Lite of {length} bytes"), 136, udp_lite(&[])[..length].to_vec());
    }
    for length in [0, 1, 11] {
        row(&format!("DCCP of {length} bytes"), 33, dccp(&[])[..length].to_vec());
    }
    let changed = |mut payload: Vec<u8>, place: usize, value: u8| {
        payload[place] = value;
        payload
    };
    row("TCP with a data offset of four words", 6, changed(tcp(&[0; 20]), 12, 0x40));
    row("TCP with a data offset beyond its end", 6, changed(tcp(&[0; 3]), 12, 0x60));
    row("UDP with a length of 7", 17, changed(udp(&[1; 20]), 5, 7));
    row("UDP with a length beyond its end", 17, changed(udp(&[1; 20]), 5, 29));
    rows
}

/// "Translators MUST forward all transport protocols", but for those that are something else on the other side.
fn others() -> Vec<Row> {
    let mut rows = Vec::new();
    for number in (0..=255).filter(|number| ![1, 6, 17, 33, 58, 136].contains(number)) {
        for length in [0, 1, 77] {
            let name = |section: &str| format!("{section} protocol {number}, {length} bytes");
            let (from, to) = (v4(number, data(length)), v6(number, data(length)));
            rows.push(match number {
                // Extension headers of IPv6; and IGMP, which 4.2 drops.
                0 | 2 | 43 | 44 | 60 | 135 | 139 | 140 => {
                    up_refused(name("4.1"), &from, "protocol_untranslatable", None)
                }
                51 => up_refused(name("4.1"), &from, "authentication_header", None),
                _ => up(name("4.1"), &from, &to),
            });
            let (from, to) = (to.back(), from.back());
            match number {
                // Walked as what they are: another table.
                0 | 43 | 44 | 60 => {}
                51 => rows.push(down_refused(name("5.1"), &from, "authentication_header", None)),
                135 | 139 | 140 => {
                    rows.push(down_refused(name("5.1"), &from, "extension_header_unsupported", None));
                }
                _ => rows.push(down(name("5.1"), &from, &to)),
            }
        }
    }
    let body = icmp(128, 0, 1, &data(9));
    rows.push(up_refused("4.1 ICMPv6 in IPv4", &v4(58, body.clone()), "protocol_untranslatable", None));
    rows.push(down_refused("5.1 ICMPv4 in IPv6", &v6(1, body).back(), "protocol_untranslatable", None));
    rows
}
