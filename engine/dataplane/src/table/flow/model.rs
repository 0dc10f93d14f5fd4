//! The table's protocols under loom; see `table/model.rs` for how to run them.

use super::account::Account;
use super::lines::Place;
use super::table::Sizes;
use super::{Direction, FlowKey, FlowTable, FlowWorker, NewFlow, Sign, Tick, Timeouts};
use crate::id::{PortId, VnetId};
use crate::table::qsbr::{Domain, Reader};
use core::net::Ipv4Addr;
use loom::thread;
use std::sync::Arc;

const NOW: Tick = Tick(1);

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn key(number: u16, back: bool) -> (FlowKey, Direction) {
    let (client, server) = ((Ipv4Addr::LOCALHOST, number), (Ipv4Addr::BROADCAST, 80));
    let (source, destination) = if back { (server, client) } else { (client, server) };
    FlowKey::new(VnetId::MIN, 17, source, destination)
}

fn new(direction: Direction) -> NewFlow {
    let account = Account::of_port(PortId::new(0).expect("the first port"));
    NewFlow { direction, sign: Sign::DATAGRAM, account, joined: false, epoch: 0, verdict: Ok(()) }
}

fn table(workers: usize, entries: usize) -> (Arc<Domain>, FlowTable) {
    let domain = Domain::new(workers, 4);
    let sizes = Sizes { buckets: 2, entries, reserve: 0 };
    let table = FlowTable::of(&domain, sizes, (Timeouts::default(), usize::MAX), workers, [1, 2]);
    (domain, table)
}

/// Enters a flow and says which entry it has.
fn enter(table: &FlowTable, worker: &mut FlowWorker, reader: &Reader, number: u16, back: bool) -> usize {
    let (key, direction) = key(number, back);
    let (flow, _) = worker.insert(table, reader, key, &new(direction), NOW).expect("there is room");
    assert_eq!(flow.key(), key);
    core::ptr::from_ref(flow.entry).addr()
}

/// Checks that each flow is there once, nothing is tentative, and no entry is lost.
fn check(table: &FlowTable, workers: &[FlowWorker], live: usize) {
    let lines = &table.shared.lines;
    let words = (0..lines.buckets()).flat_map(Place::of).map(|place| lines.load(place));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    assert!(words.iter().all(|word| !word.is_tentative()), "left tentative");
    assert_eq!(words.len(), live);
    assert_eq!(table.totals().live(), live as u64);
    let kept: usize = workers.iter().map(FlowWorker::kept).sum();
    assert_eq!(table.shared.pool.len(&table.shared.entries) + kept + live, table.room(), "an entry is lost");
}

/// Two workers do `work`, each with its own number, and what is left is checked.
fn two_workers(
    preemptions: usize,
    entries: usize,
    live: usize,
    before: impl Fn(&FlowTable, &mut FlowWorker, &Reader) + Sync + Send + 'static,
    work: impl Fn(usize, &FlowTable, &mut FlowWorker, &mut Reader) -> usize + Copy + Sync + Send + 'static,
) {
    explore(preemptions, move || {
        let (domain, table) = table(2, entries);
        let (mut one, mut two) = (table.worker(0), table.worker(1));
        let mut reader = domain.register("one").expect("there is room");
        before(&table, &mut one, &reader);
        let other = {
            let (table, domain) = (table.clone(), Arc::clone(&domain));
            thread::spawn(move || {
                let mut reader = domain.register("two").expect("there is room");
                let result = work(1, &table, &mut two, &mut reader);
                (result, two)
            })
        };
        let result = work(0, &table, &mut one, &mut reader);
        let (other, two) = other.join().expect("the other worker is well");
        assert_eq!(result, other);
        check(&table, &[one, two], live);
    });
}

#[test]
fn a_flow_that_two_workers_enter_at_once_from_both_sides_is_there_once_and_both_get_it() {
    two_workers(
        3,
        4,
        1,
        |_, _, _| (),
        |who, table, worker, reader| enter(table, worker, reader, 1, who == 1),
    );
}

#[test]
fn a_flow_is_there_once_also_when_a_place_before_the_other_workers_becomes_free() {
    // The first place of the flow's buckets is taken, and is given up while both enter the flow.
    two_workers(
        3,
        6,
        1,
        |table, worker, reader| {
            enter(table, worker, reader, neighbour(table), false);
        },
        |who, table, worker, reader| {
            if who == 0 {
                let (key, _) = key(neighbour(table), false);
                if let Some(flow) = table.lookup(reader, key) {
                    assert!(worker.remove(reader, flow));
                }
            }
            enter(table, worker, reader, 1, who == 1)
        },
    );
}

/// A flow whose first bucket is that of flow 1.
fn neighbour(table: &FlowTable) -> u16 {
    let first = |number| table.shared.lines.home(key(number, false).0).bucket();
    (2..).find(|number| first(*number) == first(1)).unwrap_or(2)
}

#[test]
fn an_entry_is_not_another_flows_while_a_look_up_has_it() {
    explore(2, || {
        // One entry, so that the second flow must use that of the first.
        let (domain, table) = table(2, 1);
        let mut worker = table.worker(0);
        let mut reader = domain.register("writer").expect("there is room");
        enter(&table, &mut worker, &reader, 1, false);
        let looking = {
            let (table, domain) = (table.clone(), Arc::clone(&domain));
            thread::spawn(move || {
                let mut reader = domain.register("reader").expect("there is room");
                for _ in 0..2 {
                    for number in [1, 2] {
                        let (key, direction) = key(number, true);
                        if let Some(flow) = table.lookup(&reader, key) {
                            flow.observe(direction, Sign::DATAGRAM, NOW, table.timeouts());
                            assert_eq!(flow.key(), key, "used again under a reader");
                        }
                    }
                    reader.quiesce();
                }
            })
        };
        let flow = table.lookup(&reader, key(1, false).0).expect("it is there");
        assert!(worker.remove(&reader, flow));
        worker.turn(&reader, NOW);
        reader.quiesce();
        worker.turn(&reader, NOW);
        let (key, direction) = key(2, false);
        let entered = worker.insert(&table, &reader, key, &new(direction), NOW).is_ok();
        looking.join().expect("the reader is well");
        check(&table, &[worker], usize::from(entered));
    });
}

#[test]
fn entries_that_change_hands_are_neither_lost_nor_given_twice() {
    // Each takes a batch from the pool and shares it again, so the same one comes back on top.
    two_workers(
        2,
        3,
        0,
        |_, _, _| (),
        |who, table, worker, reader| {
            for round in 0..2 {
                let (key, direction) = key(10 * who as u16 + round, false);
                // The other one may hold what this one has unlinked.
                if let Ok((flow, true)) = worker.insert(table, reader, key, &new(direction), NOW) {
                    assert!(worker.remove(reader, flow));
                }
                worker.turn(reader, NOW);
                reader.quiesce();
                worker.turn(reader, NOW);
            }
            0
        },
    );
}
