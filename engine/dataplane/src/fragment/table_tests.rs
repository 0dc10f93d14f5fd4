use super::*;
use crate::buffer::{HeapOptions, HeapPacket, HeapPool};
use crate::fragment::FragmentLimits;
use crate::packet::Packet;
use crate::wire::protocol;

const TIMEOUT: Duration = Duration::from_secs(2);
const PASS: Result<Verdict, DropReason> = Ok(Verdict::Pass);
const HOLD: Result<Verdict, DropReason> = Ok(Verdict::Hold);
const PASS_AND_RELEASE: Result<Verdict, DropReason> = Ok(Verdict::PassAndRelease);
const OVERLAP: Result<Verdict, DropReason> = Err(DropReason::FragmentOverlap);
const MALFORMED: Result<Verdict, DropReason> = Err(DropReason::FragmentMalformed);
const FULL: Result<Verdict, DropReason> = Err(DropReason::FragmentTableFull);

/// What a packet in a test says of itself.
type Name = (u32, u16);

/// A table, its packets, and what it lost.
struct World {
    table: FragmentTable<HeapPacket>,
    pool: HeapPool,
    now: Duration,
    lost: Vec<(DropReason, Name)>,
}

fn key(port: u16, identification: u32) -> Key {
    Key {
        port: PortId::new(port).unwrap(),
        vnet: VnetId::MIN,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
        protocol: protocol::UDP,
        identification,
    }
}

/// A fragment of `length` units at `offset` with more behind it.
fn part(offset: u16, length: u16) -> Part {
    Part::new_checked(protocol::UDP, offset, true, length * 8).unwrap()
}

/// The last fragment: `length` bytes at `offset`.
fn last(offset: u16, length: u16) -> Part {
    Part::new_checked(protocol::UDP, offset, false, length).unwrap()
}

fn name(packet: &HeapPacket) -> Name {
    let bytes = packet.head();
    (u32::from_be_bytes(bytes[..4].try_into().unwrap()), u16::from_be_bytes(bytes[4..6].try_into().unwrap()))
}

impl World {
    fn new(datagrams: usize, held: usize) -> Self {
        let limits = FragmentLimits { datagrams, held, timeout: TIMEOUT };
        let pool = HeapPool::new(HeapOptions { limit: 1 << 20, headroom: 0, room: 8 });
        Self { table: FragmentTable::new(limits, [1, 2]), pool, now: Duration::ZERO, lost: vec![] }
    }

    /// Judges a fragment and holds it if it is to be held; the packet knows its datagram and its place.
    fn judge(&mut self, key: &Key, part: Part) -> Result<Verdict, DropReason> {
        let Self { table, lost, .. } = self;
        let verdict = table.judge(self.now, key, part, &mut |key: &Key, reason, packet| {
            assert_eq!(name(&packet).0, key.identification, "lost under another's name");
            lost.push((reason, name(&packet)));
        });
        if verdict == HOLD {
            let bytes = [key.identification.to_be_bytes().as_slice(), &part.start.to_be_bytes()].concat();
            let packet = self.pool.packet(&bytes).unwrap();
            assert!(table.hold(key, packet).is_ok());
        }
        assert_eq!(self.pool.outstanding() > 0, self.table.is_holding());
        verdict
    }

    /// The places of what is released.
    fn release(&mut self, key: &Key) -> Vec<u16> {
        let mut released = vec![];
        self.table.release(key, |packet| released.push(name(&packet).1));
        released
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        loop {
            let before = self.lost.len();
            self.table
                .expire(self.now, &mut |_: &Key, reason, packet| self.lost.push((reason, name(&packet))));
            if self.lost.len() == before {
                break;
            }
        }
    }

    fn datagrams(&self) -> usize {
        self.table.lanes.iter().map(|lane| lane.datagrams).sum()
    }
}

#[path = "table_oracle.rs"]
mod oracle;

#[test]
fn fragments_in_order_pass_and_the_complete_datagram_is_forgotten() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    // Twice: a sender comes round to the same identification.
    for _ in 0..2 {
        assert_eq!(world.judge(&key, part(0, 185)), PASS);
        assert_eq!(world.judge(&key, part(185, 185)), PASS);
        assert_eq!(world.datagrams(), 1);
        assert_eq!(world.judge(&key, last(370, 13)), PASS);
        assert_eq!(world.datagrams(), 0);
    }
    assert_eq!(world.lost, []);
}

#[test]
fn fragments_before_the_first_are_held_and_go_by_after_it_in_the_order_in_which_they_came() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    assert_eq!(world.judge(&key, last(370, 13)), HOLD);
    assert_eq!(world.judge(&key, part(185, 100)), HOLD);
    assert_eq!(world.judge(&key, part(0, 185)), PASS_AND_RELEASE);
    // In the same burst, before what was held is judged again.
    assert_eq!(world.judge(&key, part(285, 85)), PASS);
    assert_eq!(world.release(&key), [370, 185]);
    assert_eq!((world.pool.outstanding(), world.datagrams()), (0, 1));
    assert_eq!(world.judge(&key, last(370, 13)), PASS);
    assert_eq!(world.judge(&key, part(185, 100)), PASS);
    assert_eq!((world.datagrams(), world.lost.len()), (0, 0));
}

#[test]
fn whole_datagram_has_nothing_to_do_with_fragments_of_the_same_identification() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    assert_eq!(world.judge(&key, part(0, 10)), PASS);
    assert_eq!(world.judge(&key, last(0, 80)), PASS);
    assert_eq!(world.judge(&key, last(10, 80)), PASS);
    assert_eq!(world.judge(&key, last(0, 80)), PASS);
    assert_eq!(world.datagrams(), 0);
}

#[test]
fn datagrams_that_differ_in_any_part_of_the_key_are_apart() {
    let mut world = World::new(64, 64);
    let one = key(0, 7);
    assert_eq!(world.judge(&one, part(0, 10)), PASS);
    for other in [
        Key { port: PortId::new(1).unwrap(), ..one },
        Key { vnet: VnetId::MAX, ..one },
        Key { source: one.destination, ..one },
        Key { destination: one.source, ..one },
        Key { protocol: protocol::TCP, ..one },
        Key { identification: 7 | 1 << 16, ..one },
    ] {
        assert_eq!(world.judge(&other, part(10, 10)), HOLD, "{other:?}");
    }
    assert_eq!(world.judge(&one, part(10, 10)), PASS);
}

#[test]
fn exact_duplicate_is_refused_and_its_datagram_goes_on() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    assert_eq!(world.judge(&key, part(20, 5)), HOLD);
    assert_eq!(world.judge(&key, part(20, 5)), OVERLAP, "of one that is held");
    assert_eq!(world.judge(&key, part(0, 10)), PASS_AND_RELEASE);
    assert_eq!(world.release(&key), [20]);
    assert_eq!(world.judge(&key, part(20, 5)), PASS);
    assert_eq!(world.judge(&key, part(0, 10)), OVERLAP, "of the first");
    assert_eq!(world.judge(&key, part(20, 5)), OVERLAP);
    assert_eq!(world.judge(&key, part(10, 10)), PASS);
    assert_eq!(world.judge(&key, last(25, 1)), PASS);
    assert_eq!(world.datagrams(), 0);
}

#[test]
fn overlap_spoils_the_datagram_until_its_time_is_over() {
    // Teardrop: inside the first; over its end; over the beginning of a later one; over everything.
    for (offset, length) in [(3, 3), (9, 5), (15, 10), (0, 40), (0, 9), (0, 11)] {
        let mut world = World::new(64, 4);
        let key = key(0, 7);
        assert_eq!(world.judge(&key, part(0, 10)), PASS);
        assert_eq!(world.judge(&key, part(20, 10)), PASS);
        assert_eq!(world.judge(&key, part(offset, length)), OVERLAP);
        for part in [part(10, 10), part(30, 1), last(40, 7), part(0, 10)] {
            assert_eq!(world.judge(&key, part), OVERLAP);
        }
        world.wait(1999);
        assert_eq!(world.judge(&key, part(10, 10)), OVERLAP);
        world.wait(1);
        assert_eq!(world.judge(&key, part(0, 10)), PASS);
    }
}

#[test]
fn overlap_among_those_that_are_held_loses_them_and_the_first() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    assert_eq!(world.judge(&key, part(10, 10)), HOLD);
    assert_eq!(world.judge(&key, part(30, 10)), HOLD);
    assert_eq!(world.judge(&key, part(15, 10)), OVERLAP);
    assert_eq!(world.lost, [10, 30].map(|place| (DropReason::FragmentOverlap, (7, place))));
    assert_eq!(world.judge(&key, part(0, 10)), OVERLAP);
    assert_eq!(world.pool.outstanding(), 0);
}

#[test]
fn first_fragment_that_covers_a_held_one_spoils_the_datagram() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    assert_eq!(world.judge(&key, part(2, 3)), HOLD);
    assert_eq!(world.judge(&key, part(0, 10)), OVERLAP);
    assert_eq!(world.lost, [(DropReason::FragmentOverlap, (7, 2))]);
}

#[test]
fn two_ends_or_data_behind_the_end_spoil_the_datagram() {
    let mut first_comes_last = World::new(64, 8);
    for (one, other) in [
        (last(20, 13), last(30, 13)),
        (last(20, 13), last(10, 13)),
        (last(20, 13), last(20, 12)),
        (last(20, 13), part(25, 1)),
        (last(20, 16), part(21, 1)),
        (last(20, 13), part(20, 2)),
        (part(30, 1), last(20, 13)),
        (part(20, 2), last(20, 16)),
    ] {
        let mut world = World::new(64, 8);
        let key = key(0, 7);
        assert_eq!(world.judge(&key, part(0, 10)), PASS);
        assert_eq!(world.judge(&key, one), PASS);
        assert_eq!(world.judge(&key, other), MALFORMED, "{one:?} {other:?}");
        assert_eq!(world.judge(&key, part(10, 1)), MALFORMED);

        first_comes_last.wait(2000);
        assert_eq!(first_comes_last.judge(&key, one), HOLD);
        assert_eq!(first_comes_last.judge(&key, other), MALFORMED);
        assert_eq!(first_comes_last.lost.pop(), Some((DropReason::FragmentMalformed, (7, one.start))));
        assert_eq!(first_comes_last.judge(&key, part(0, 10)), MALFORMED);
    }
    // Up to the end is not behind it.
    let mut world = World::new(64, 8);
    for part in [part(0, 10), last(20, 13), part(12, 8), part(10, 2)] {
        assert_eq!(world.judge(&key(0, 7), part), PASS);
    }
    assert_eq!(world.datagrams(), 0);
}

#[test]
fn fragments_whose_first_does_not_come_in_time_are_lost() {
    let mut world = World::new(64, 8);
    assert_eq!(world.judge(&key(0, 1), part(10, 10)), HOLD);
    world.wait(1000);
    assert_eq!(world.judge(&key(0, 1), part(20, 10)), HOLD);
    assert_eq!(world.judge(&key(0, 2), part(10, 10)), HOLD);
    world.wait(999);
    assert_eq!(world.lost, []);
    world.wait(1);
    assert_eq!(world.lost, [10, 20].map(|place| (DropReason::FragmentWithoutFirst, (1, place))));
    assert_eq!(world.judge(&key(0, 1), part(0, 10)), PASS, "a new datagram");
    assert_eq!(world.judge(&key(0, 2), part(0, 10)), PASS_AND_RELEASE);
    assert_eq!(world.release(&key(0, 2)), [10]);
}

#[test]
fn time_is_over_even_if_nothing_expires_datagrams_in_between() {
    let mut world = World::new(64, 8);
    let key = key(0, 1);
    assert_eq!(world.judge(&key, part(10, 10)), HOLD);
    world.now += Duration::from_secs(2);
    assert_eq!(world.judge(&key, part(0, 10)), PASS);
    assert_eq!(world.lost, [(DropReason::FragmentWithoutFirst, (1, 10))]);
    // Clocks of two bursts may differ in order: no panic, and nothing is over.
    world.now = Duration::ZERO;
    assert_eq!(world.judge(&key, part(10, 10)), PASS);
}

#[test]
fn as_many_fragments_of_a_datagram_are_held_as_the_largest_one_has_and_no_more() {
    let mut world = World::new(64, 200);
    // The largest datagram in fragments of an Ethernet, the last one first.
    assert_eq!(world.judge(&key(0, 1), last(44 * 185, 395)), HOLD);
    for n in (1..44).rev() {
        assert_eq!(world.judge(&key(0, 1), part(n * 185, 185)), HOLD);
    }
    assert_eq!(world.judge(&key(0, 1), part(0, 185)), PASS_AND_RELEASE);
    assert_eq!(world.release(&key(0, 1)).len(), 44);
    for n in 0..64 {
        assert_eq!(world.judge(&key(0, 2), part(1 + n, 1)), HOLD);
    }
    assert_eq!(world.judge(&key(0, 2), part(65, 1)), FULL);
    assert_eq!(world.pool.outstanding(), 64);
}

#[test]
fn more_gaps_than_are_remembered_are_refused() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    for n in 0..16 {
        assert_eq!(world.judge(&key, part(n * 4, 2)), PASS);
    }
    assert_eq!(world.judge(&key, part(64, 2)), FULL);
    assert_eq!(world.judge(&key, part(2, 2)), PASS, "fills a gap");
    assert_eq!(world.judge(&key, part(64, 2)), PASS);
}

#[test]
fn datagram_is_refused_as_its_first_fragment_was() {
    let mut world = World::new(64, 4);
    let key = key(0, 7);
    let World { table, lost, .. } = &mut world;
    let reason = DropReason::UdpChecksumZero;
    table.refuse(&key, reason, &mut |_: &Key, reason, packet| lost.push((reason, name(&packet))));
    assert_eq!(world.judge(&key, part(10, 10)), HOLD, "not followed yet");
    assert_eq!(world.judge(&key, part(0, 10)), PASS_AND_RELEASE);
    let World { table, lost, .. } = &mut world;
    table.refuse(&key, reason, &mut |_: &Key, reason, packet| lost.push((reason, name(&packet))));
    assert_eq!(world.lost, [(reason, (7, 10))]);
    assert_eq!(world.judge(&key, part(20, 10)), Err(reason));
    assert_eq!(world.judge(&key, part(0, 10)), Err(reason));
    assert_eq!(world.release(&key), [0; 0]);
    assert_eq!(world.pool.outstanding(), 0);
}

#[test]
fn packet_that_is_held_without_a_verdict_comes_back() {
    let mut world = World::new(64, 4);
    let packet = HeapPool::default().packet(b"1").unwrap();
    let (reason, packet) = world.table.hold(&key(0, 1), packet).unwrap_err();
    assert_eq!((reason, packet.head()), (DropReason::FragmentTableFull, b"1".as_slice()));
    assert_eq!(world.judge(&key(0, 1), part(0, 10)), PASS);
    assert!(world.table.hold(&key(0, 1), packet).is_err(), "does not wait");
}

/// Ports whose lanes differ, as seed and hash have it.
fn ports_apart(world: &World, count: usize) -> Vec<u16> {
    let (mut ports, mut lanes) = (vec![], vec![]);
    for port in 0.. {
        let lane = world.table.lane(&key(port, 0));
        if !lanes.contains(&lane) {
            ports.push(port);
            lanes.push(lane);
        }
        if ports.len() == count {
            break;
        }
    }
    ports
}

#[test]
fn flood_of_first_fragments_pushes_out_its_own_port_s_oldest_datagrams() {
    let mut world = World::new(64, 8);
    let [victim, attacker, other] = ports_apart(&world, 3)[..] else { panic!() };
    for n in 0..10 {
        assert_eq!(world.judge(&key(victim, n), part(0, 10)), PASS);
    }
    for n in 0..1000 {
        assert_eq!(world.judge(&key(attacker, 100 + n), part(0, 10)), PASS);
        assert!(world.datagrams() <= 64);
    }
    for n in 0..10 {
        assert_eq!(world.judge(&key(other, n), part(0, 10)), PASS);
        assert_eq!(world.judge(&key(attacker, 2000 + n), part(0, 10)), PASS);
    }
    for n in 0..10 {
        assert_eq!(world.judge(&key(victim, n), last(10, 10)), PASS);
        assert_eq!(world.judge(&key(other, n), last(10, 10)), PASS);
    }
    assert_eq!(world.judge(&key(attacker, 2009), last(10, 10)), PASS, "the attacker's newest is there");
    assert_eq!(world.judge(&key(attacker, 100), last(10, 10)), HOLD, "its oldest is not");
}

#[test]
fn flood_of_fragments_without_first_pushes_out_its_own_port_s_oldest() {
    let mut world = World::new(4096, 64);
    let [victim, attacker, other] = ports_apart(&world, 3)[..] else { panic!() };
    for n in 0..10 {
        assert_eq!(world.judge(&key(victim, n), part(10, 10)), HOLD);
    }
    for n in 0..1000 {
        assert_eq!(world.judge(&key(attacker, 100 + n), part(10, 10)), HOLD);
        assert!(world.pool.outstanding() <= 64);
    }
    assert_eq!(world.judge(&key(other, 1), part(10, 10)), HOLD);
    assert!(
        world.lost.iter().all(|(reason, (id, _))| *id >= 100 && *reason == DropReason::FragmentTableFull)
    );
    assert_eq!(world.lost.len(), 1010 + 1 - 64);
    for n in 0..10 {
        assert_eq!(world.judge(&key(victim, n), part(0, 10)), PASS_AND_RELEASE);
        assert_eq!(world.release(&key(victim, n)), [10]);
    }
}

#[test]
fn many_fragments_of_few_datagrams_do_not_push_out_others_either() {
    let mut world = World::new(4096, 64);
    let [victim, attacker] = ports_apart(&world, 2)[..] else { panic!() };
    assert_eq!(world.judge(&key(victim, 0), part(10, 10)), HOLD);
    for id in 1..100 {
        for n in 0..60 {
            let verdict = world.judge(&key(attacker, id), part(1 + n, 1));
            assert!(verdict == HOLD || verdict == FULL);
            assert!(world.pool.outstanding() <= 64);
        }
    }
    assert_eq!(world.judge(&key(victim, 0), part(0, 10)), PASS_AND_RELEASE);
    assert_eq!(world.release(&key(victim, 0)), [10]);
}

#[test]
fn datagram_does_not_push_out_its_own_fragments() {
    let mut world = World::new(64, 8);
    for n in 0..8 {
        assert_eq!(world.judge(&key(0, 1), part(1 + n, 1)), HOLD);
    }
    assert_eq!(world.judge(&key(0, 1), part(9, 1)), FULL);
    assert_eq!(world.lost, []);
    assert_eq!(world.judge(&key(0, 1), part(0, 1)), PASS_AND_RELEASE);
    assert_eq!(world.release(&key(0, 1)).len(), 8);
}

#[test]
fn datagram_that_was_pushed_out_and_begins_anew_is_not_released_for_its_old_first_fragment() {
    let mut world = World::new(2, 8);
    assert_eq!(world.judge(&key(0, 1), part(10, 10)), HOLD);
    assert_eq!(world.judge(&key(0, 1), part(0, 10)), PASS_AND_RELEASE);
    for id in [2, 3] {
        assert_eq!(world.judge(&key(0, id), part(0, 10)), PASS);
    }
    assert_eq!(world.lost, [(DropReason::FragmentTableFull, (1, 10))]);
    assert_eq!(world.judge(&key(0, 1), part(20, 10)), HOLD);
    assert_eq!(world.release(&key(0, 1)), [0; 0]);
    assert_eq!(world.judge(&key(0, 1), part(0, 10)), PASS_AND_RELEASE);
    assert_eq!(world.release(&key(0, 1)), [20]);
}

#[test]
fn room_is_made_of_what_has_timed_out_first() {
    let mut world = World::new(64, 8);
    let [old, young] = ports_apart(&world, 2)[..] else { panic!() };
    assert_eq!(world.judge(&key(old, 0), part(10, 10)), HOLD);
    world.now += Duration::from_secs(1);
    for n in 1..64 {
        assert_eq!(world.judge(&key(young, n), part(0, 10)), PASS);
    }
    world.now += Duration::from_secs(1);
    assert_eq!(world.judge(&key(young, 64), part(0, 10)), PASS);
    assert_eq!(world.lost, [(DropReason::FragmentWithoutFirst, (0, 10))]);
    assert_eq!(world.judge(&key(young, 1), last(10, 10)), PASS, "the young lane's oldest is still there");
}

#[test]
fn expiry_does_a_bounded_amount_of_work_at_once() {
    let mut world = World::new(1024, 1024);
    for n in 0..200 {
        assert_eq!(world.judge(&key(0, n), part(10, 10)), HOLD);
    }
    for expected in [136, 72, 8, 0] {
        world.table.expire(Duration::from_secs(2), &mut |_: &Key, _, _| {});
        assert_eq!(world.pool.outstanding(), expected);
    }
    assert!(!world.table.is_holding());
}

#[test]
fn dropped_table_gives_back_what_it_holds() {
    let mut world = World::new(64, 8);
    assert_eq!(world.judge(&key(0, 1), part(10, 10)), HOLD);
    let World { table, pool, .. } = world;
    drop(table);
    assert_eq!(pool.outstanding(), 0);
}
