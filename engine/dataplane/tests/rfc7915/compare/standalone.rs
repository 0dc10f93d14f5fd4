//! The engine's translator without stages: it judges each packet alone, as the reference does.

use super::translator::{ETHERNET, read_answer};
use crate::reference::{Refused, Site, Translated};
use crate::world::bytes;
use ipnet::{Ipv4Net, Ipv6Net};
use overlane_dataplane::buffer::HeapPool;
use overlane_dataplane::translate::{AddressMap, Options, Side, Translator};

fn options(site: &Site) -> Options {
    let mut map = AddressMap::default();
    for (v4, v6) in &site.hosts {
        map.insert(Ipv4Net::from(*v4), Ipv6Net::from(*v6)).unwrap();
    }
    Options {
        map,
        settings: super::translator::settings(site),
        ipv4_mtu: site.ipv4_mtu as u16,
        ipv6_mtu: site.ipv6_mtu as u16,
        own_ipv4: site.router,
        own_ipv6: None,
    }
}

/// Translates one packet, which lies in segments cut at `cuts`.
#[track_caller]
pub(crate) fn translate(site: &Site, to_six: bool, packet: &[u8], cuts: &[usize]) -> Translated {
    let ethertype: [u8; 2] = if to_six { [0x08, 0x00] } else { [0x86, 0xdd] };
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ethertype, packet].concat();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(frame.len())).collect();
    cuts.extend([0, frame.len()]);
    cuts.sort_unstable();
    let pool = HeapPool::default();
    let in_pool = pool.packet_of(cuts.windows(2).map(|cut| &frame[cut[0]..cut[1]])).unwrap();

    let (own, other) = if to_six { (Side::Ipv4, Side::Ipv6) } else { (Side::Ipv6, Side::Ipv4) };
    let (mut translated, mut answers) = (Vec::new(), Vec::new());
    let result =
        Translator::new(options(site)).translate(&pool, in_pool, &mut |_| true, &mut |side, packet| {
            let packet = bytes(&packet)[ETHERNET..].to_vec();
            if side == other { translated.push(packet) } else { answers.push((side, packet)) }
        });
    assert_eq!(pool.outstanding(), 0, "a packet leaked");
    match (result, translated.is_empty(), answers.as_slice()) {
        (Ok(()), false, []) => Ok(translated),
        (Err(reason), true, answers @ ([] | [_])) => {
            let answer = answers.first().map(|(side, answer)| {
                assert_eq!(*side, own);
                read_answer(to_six, answer, packet)
            });
            Err(Refused { reason: reason.name(), answer })
        }
        outcome => panic!("neither translated nor refused: {outcome:?}"),
    }
}
