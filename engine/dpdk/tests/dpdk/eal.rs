//! The environment, worker threads and pools' lives.

use std::process::Command;
use std::thread;

use overlane_dataplane::packet::{Clock, Packet, Pool};
use overlane_dpdk::{
    Eal, EalError, EalOptions, Hugepages, Mempool, MempoolError, MempoolOptions, Port, PortOptions, TscClock,
    WorkerError, WorkerThread,
};

use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] = cases![
    a_second_environment_is_refused,
    initialising_leaves_the_callers_cores_alone,
    a_worker_is_pinned_and_registered_once,
    a_core_that_the_machine_lacks_is_refused,
    a_packet_may_outlive_every_handle_to_its_pool,
    a_pools_options_are_checked,
    packets_freed_on_another_worker_come_back,
    the_clock_goes_on_at_the_systems_pace,
    the_environment_ends_with_its_last_user,
];

/// Set in a process that lives through a whole environment.
pub(crate) const TO_THE_END: &str = "OVERLANE_TEST_TO_THE_END";

fn a_second_environment_is_refused(_: &Bench) {
    assert!(matches!(Eal::init(EalOptions::default()), Err(EalError::AlreadyInitialised)));
}

fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
}

fn initialising_leaves_the_callers_cores_alone(_: &Bench) {
    let process = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(process.contains(&allowed_cores()), "{} is not of {process}", allowed_cores());
}

fn a_worker_is_pinned_and_registered_once(bench: &Bench) {
    let eal = bench.eal.clone();
    let work = move || {
        let first = WorkerThread::register(&eal, Some(0)).unwrap();
        assert_eq!(first.core(), Some(0));
        assert_eq!(allowed_cores(), "Cpus_allowed_list:\t0");
        assert!(matches!(WorkerThread::register(&eal, None), Err(WorkerError::AlreadyRegistered)));
        drop(first);
        drop(WorkerThread::register(&eal, None).unwrap());
    };
    thread::spawn(work).join().unwrap();
}

fn a_core_that_the_machine_lacks_is_refused(bench: &Bench) {
    for core in [1_023, 100_000] {
        match WorkerThread::register(&bench.eal, Some(core)) {
            Err(WorkerError::Pin { core: refused, allowed, .. }) => {
                assert_eq!(refused, core);
                assert!(!allowed.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}

fn a_packet_may_outlive_every_handle_to_its_pool(bench: &Bench) {
    let options = MempoolOptions { size: 128, data_room: 2_048, cache: 0 };
    let pool = Mempool::new(&bench.eal, "outlived", &options).unwrap();
    let packet = pool.packet(b"still here").unwrap();
    drop(pool);
    // DPDK knows the name as long as the pool is there.
    let taken = Mempool::new(&bench.eal, "outlived", &options);
    assert!(matches!(taken, Err(MempoolError::Create { .. })), "{taken:?}");
    assert_eq!(packet.head(), b"still here");
    drop(packet);
    Mempool::new(&bench.eal, "outlived", &options).unwrap();
}

fn a_pools_options_are_checked(bench: &Bench) {
    for name in ["", "a b", "a,b", "a\0b", &"a".repeat(26)] {
        let refused = Mempool::new(&bench.eal, name, &MempoolOptions::default());
        assert!(matches!(refused, Err(MempoolError::Name(_))), "{refused:?}");
    }
    let good = MempoolOptions { size: 128, data_room: 2_048, cache: 0 };
    let wrong = [
        ("size", MempoolOptions { size: 63, ..good.clone() }),
        ("size", MempoolOptions { size: (1 << 24) + 1, ..good.clone() }),
        ("data_room", MempoolOptions { data_room: 1_535, ..good.clone() }),
        ("data_room", MempoolOptions { data_room: 65_281, ..good.clone() }),
        ("cache", MempoolOptions { cache: 86, ..good.clone() }),
        ("cache", MempoolOptions { size: 4_096, cache: 513, ..good }),
    ];
    for (expected, options) in wrong {
        match Mempool::new(&bench.eal, "wrong", &options) {
            Err(MempoolError::Option { field, .. }) => assert_eq!(field, expected),
            other => panic!("{other:?}"),
        }
    }
    let too_large = MempoolOptions { size: 1 << 20, ..MempoolOptions::default() };
    let refused = Mempool::new(&bench.eal, "large", &too_large);
    assert!(matches!(refused, Err(MempoolError::Create { .. })), "{refused:?}");
}

fn packets_freed_on_another_worker_come_back(bench: &Bench) {
    let pool = bench.pool(1_024);
    let (sender, receiver) = std::sync::mpsc::sync_channel(64);
    let (eal, theirs) = (bench.eal.clone(), pool.clone());
    let giver = thread::spawn(move || {
        let _worker = WorkerThread::register(&eal, None).unwrap();
        let mut given = 0;
        while given < 20_000 {
            if let Some(packet) = theirs.allocate() {
                sender.send(packet).unwrap();
                given += 1;
            }
        }
    });
    let eal = bench.eal.clone();
    let taker = thread::spawn(move || {
        let _worker = WorkerThread::register(&eal, None).unwrap();
        receiver.iter().count()
    });
    giver.join().unwrap();
    assert_eq!(taker.join().unwrap(), 20_000);
    assert_eq!(pool.in_use(), 0);
}

fn the_clock_goes_on_at_the_systems_pace(bench: &Bench) {
    let clock = TscClock::new(&bench.eal);
    let (ours, systems) = (clock.now(), std::time::Instant::now());
    while systems.elapsed().as_millis() < 50 {
        assert!(clock.now() >= ours);
    }
    let (ours, systems) = ((clock.now() - ours).as_secs_f64(), systems.elapsed().as_secs_f64());
    assert!((ours / systems - 1.0).abs() < 0.02, "{ours} s of {systems} s");
}

fn the_environment_ends_with_its_last_user(_: &Bench) {
    for packet_stays in ["no", "yes"] {
        let process =
            Command::new(std::env::current_exe().unwrap()).env(TO_THE_END, packet_stays).output().unwrap();
        assert!(process.status.success(), "{}", String::from_utf8_lossy(&process.stderr));
        assert_eq!(process.stdout, b"over\n");
    }
}

/// One environment from its beginning to its end, past which one packet may stay.
pub(crate) fn live_to_the_end() {
    let eal = Eal::init(EalOptions { memory_mib: 32, hugepages: Hugepages::Never, ..EalOptions::default() })
        .unwrap();
    let pool =
        Mempool::new(&eal, "pool", &MempoolOptions { size: 512, data_room: 2_048, cache: 32 }).unwrap();
    let worker = WorkerThread::register(&eal, None).unwrap();
    let devargs = "net_null0".parse().unwrap();
    let (port, mut rx, tx) = Port::attach(&eal, &devargs, &pool, &PortOptions::default()).unwrap();
    drop(eal);
    let mut packets = arrayvec::ArrayVec::new();
    assert_eq!(rx[0].receive(&pool, &mut packets), overlane_dpdk::BURST);
    let mut stays = pool.packet(b"still here").filter(|_| std::env::var(TO_THE_END).as_deref() == Ok("yes"));
    drop((packets, pool, port, rx, tx));
    drop(worker);
    assert!(matches!(Eal::init(EalOptions::default()), Err(EalError::AlreadyInitialised)));
    if let Some(packet) = &mut stays {
        assert_eq!(packet.head(), b"still here");
        packet.head_mut().fill(0);
    }
    drop(stays);
    println!("over");
}
