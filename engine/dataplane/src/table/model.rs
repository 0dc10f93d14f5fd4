//! The protocols under loom, which tries the ways in which threads and memory may interleave:
//! `RUSTFLAGS="--cfg loom" cargo test -p overlane-dataplane --release --lib model`.

use super::mapping::{MappingKey, Writer};
use super::published::Published;
use super::qsbr::{Domain, Reader};
use crate::id::VnetId;
use core::net::Ipv4Addr;
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;

/// A value that loom watches: reading it after, or without order before, its end fails the model.
struct Watched(Arc<UnsafeCell<bool>>);

// SAFETY: the model is there to show that nobody reads the cell while it is written.
unsafe impl Send for Watched {}
// SAFETY: as for `Send`.
unsafe impl Sync for Watched {}

impl Watched {
    fn new() -> Self {
        Self(Arc::new(UnsafeCell::new(true)))
    }

    fn read(&self) {
        // SAFETY: loom fails the model if this is not so: nobody writes the cell now.
        self.0.with(|alive| assert!(unsafe { *alive }, "read after it was freed"));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: loom fails the model if this is not so: nobody else uses the cell now.
        self.0.with_mut(|alive| unsafe { *alive = false });
    }
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A reader does `read` while another thread publishes twice and frees what it may.
fn published(read: impl Fn(&Published<Watched>, &mut Reader) + Copy + Sync + Send + 'static) {
    explore(3, move || {
        let domain = Domain::new(1, 4);
        let cell = Arc::new(Published::new(&domain, Watched::new()));
        let reading = {
            let (cell, domain) = (Arc::clone(&cell), Arc::clone(&domain));
            thread::spawn(move || {
                let mut reader = domain.register("reader").expect("there is room");
                read(&cell, &mut reader);
            })
        };
        for _ in 0..2 {
            assert!(cell.publish(Watched::new()).is_ok());
            domain.collect();
        }
        reading.join().expect("the reader is well");
        domain.collect();
        assert_eq!(domain.in_limbo(), 0);
    });
}

#[test]
fn a_published_value_is_not_freed_under_a_reader_that_quiesces() {
    published(|cell, reader| {
        cell.load(reader).read();
        reader.quiesce();
        cell.load(reader).read();
    });
}

#[test]
fn a_published_value_is_not_freed_under_a_reader_that_comes_back_online() {
    published(|cell, reader| {
        reader.offline(|| ());
        cell.load(reader).read();
    });
}

fn key(number: u32) -> MappingKey {
    MappingKey::new(VnetId::MIN, Ipv4Addr::from_bits(number))
}

#[test]
fn a_look_up_finds_the_value_of_its_key_while_places_and_slots_are_reused() {
    explore(2, || {
        let domain = Domain::new(1, 4);
        let (mut writer, table) = Writer::<u32>::new(&domain, 0, [1, 2]);
        writer.insert(key(1), 10).expect("there is room");
        writer.insert(key(2), 20).expect("there is room");
        let reading = {
            let domain = Arc::clone(&domain);
            thread::spawn(move || {
                let mut reader = domain.register("reader").expect("there is room");
                for _ in 0..2 {
                    let stable = table.lookup(&reader, key(1)).copied();
                    assert!(matches!(stable, Some(10 | 11)), "{stable:?} for the key that is always there");
                    let passing = table.lookup(&reader, key(2)).copied();
                    assert!(matches!(passing, None | Some(20)), "{passing:?} for the key that is removed");
                    reader.quiesce();
                }
            })
        };
        writer.insert(key(1), 11).expect("there is room");
        assert_eq!(writer.remove(key(2)), Some(20));
        writer.maintain();
        // Takes the place and the slots, if the reader has moved on.
        writer.insert(key(3), 30).expect("there is room");
        reading.join().expect("the reader is well");
    });
}

#[test]
fn a_look_up_finds_a_key_that_is_always_there_across_a_resize() {
    explore(2, || {
        let domain = Domain::new(1, 4);
        let (mut writer, table) = Writer::<u32>::new(&domain, 0, [1, 2]);
        // One more, and one bucket is too few.
        for number in 1..=4 {
            writer.insert(key(number), number).expect("there is room");
        }
        let generation = writer.generation();
        let reading = {
            let domain = Arc::clone(&domain);
            thread::spawn(move || {
                let reader = domain.register("reader").expect("there is room");
                let found = table.lookup(&reader, key(3)).copied();
                assert_eq!(found, Some(3));
            })
        };
        writer.insert(key(5), 5).expect("there is room");
        assert!(writer.generation() > generation);
        writer.maintain();
        reading.join().expect("the reader is well");
    });
}
