//! Ports that take nothing and workers that do not turn: what they cost others, which is nothing.

use super::common::Node;
use super::common::held::{Held, thread};
use super::{World, reaches};
use overlane_dataplane::drop::DropReason;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Datagrams sent to the stuck node before each turn of the others.
const FLOOD: u64 = 16;
const TURNS: usize = 1_000;

/// A socket of a node's for datagrams.
fn udp(node: &Node, n: u8) -> UdpSocket {
    let socket = node.within(|| UdpSocket::bind(format!("10.0.0.{n}:0")).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

pub(crate) fn takes_nothing(world: &mut World) {
    let (one, two) = (world.node(1), world.node(2));
    let (three, _four) = (world.node(3), world.node(4));
    assert!(reaches(&one, 2) && reaches(&three, 4));
    // A peer that is down takes nothing.
    two.run("ip link set eth0 down");
    one.run(
        "ip neigh replace 10.0.0.2 dev eth0 lladdr $(ip neigh show 10.0.0.2 | cut -d\" \" -f5) nud permanent",
    );
    let flood = one.wrap("timeout 3 ping -f -q 10.0.0.2");
    let mut flood =
        Command::new("sh").arg("-c").arg(flood).stdout(std::process::Stdio::null()).spawn().unwrap();
    let text = three.run("ping -c 20 -i 0.05 -W 2 -q 10.0.0.4");
    assert!(text.contains(" 0% packet loss"), "{text}");
    flood.wait().unwrap();
    let dropped = world.total(2, DropReason::TxRefused);
    assert!(dropped > 100, "{dropped}");
    two.run("ip link set eth0 up");
    assert!(reaches(&two, 1));
}

/// Sends a node more at once than its share of a turn.
fn flood(from: &UdpSocket, to: SocketAddr) {
    for _ in 0..FLOOD {
        from.send_to(&[0; 1_000], to).unwrap();
    }
}

/// Sockets of two nodes, which take turns: a datagram there, one back.
struct Echo(UdpSocket, UdpSocket);

impl Echo {
    /// Takes so many turns, and does `first` before each; gives how long one took, by the quicker quarter: what else
    /// the machine does is no delay of ours. A datagram that is lost ends the test.
    fn turns(&self, count: usize, mut first: impl FnMut()) -> Duration {
        let Self(one, two) = self;
        let mut times: Vec<Duration> = (0..count)
            .map(|turn| {
                first();
                let began = Instant::now();
                let (mut buffer, bytes) = ([0; 16], turn.to_be_bytes());
                for (from, to) in [(one, two), (two, one)] {
                    from.send_to(&bytes, to.local_addr().unwrap()).unwrap();
                    let length = to.recv(&mut buffer).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
                    assert_eq!(buffer[..length], bytes);
                }
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[count / 4]
    }
}

/// How often times are compared again that looked worse beside something stuck: what else the machine does passes, a
/// delay of ours would not.
const ATTEMPTS: usize = 5;

/// Runs `round`, which gives what a turn of others took alone, and beside something that is stuck.
#[track_caller]
fn costs_others_nothing(mut round: impl FnMut() -> (Duration, Duration)) {
    let rounds = std::iter::repeat_with(&mut round).take(ATTEMPTS);
    let mut slower = Vec::new();
    for (alone, beside) in rounds {
        if beside < 2 * alone {
            return;
        }
        slower.push((alone, beside));
    }
    panic!("a turn alone, and beside what is stuck: {slower:?}");
}

/// Waits until no packet is under way and every worker has counted what it did.
#[track_caller]
fn settle(world: &World) {
    wait_for(0, || world.runtime.buffers().in_use);
    let turns = || world.runtime.worker_stats().iter().map(|worker| worker.turns).collect::<Vec<_>>();
    let before = turns();
    wait_for(true, || turns().iter().zip(&before).all(|(now, before)| now > before));
}

/// Waits until other threads have brought something about.
#[track_caller]
fn wait_for<T: PartialEq + std::fmt::Debug>(wanted: T, what: impl Fn() -> T) {
    let until = Instant::now() + PATIENCE;
    while what() != wanted {
        assert!(Instant::now() < until, "{:?}, not {wanted:?}", what());
        std::thread::yield_now();
    }
}

pub(crate) fn never_reads(world: &mut World) {
    let (one, two) = (world.node(1), world.node(2));
    let (three, four) = (world.node(3), world.node(4));
    assert!(reaches(&one, 2) && reaches(&three, 4));
    let (flooder, sink) = (udp(&one, 1), udp(&two, 2));
    let address = sink.local_addr().unwrap();
    let flood = || flood(&flooder, address);
    let echo = Echo(udp(&three, 3), udp(&four, 4));
    let full = || world.total(2, DropReason::TxQueueFull);
    costs_others_nothing(|| {
        let alone = echo.turns(TURNS, flood);
        // What comes in goes into a queue that nobody empties: whole packets of ours, as long as the node likes.
        two.run(
            "tc qdisc add dev eth0 root tbf rate 8bit burst 2000 limit 1gb; tc qdisc add dev eth0 clsact; \
             tc filter add dev eth0 ingress protocol ip u32 match u32 0 0 action mirred egress redirect dev eth0",
        );
        let (before, until) = (full(), Instant::now() + PATIENCE);
        while full() == before {
            assert!(Instant::now() < until, "the port takes everything");
            echo.turns(1, flood);
        }
        settle(world);
        let (dropped, sent) = (full(), world.sent(2));

        let beside = echo.turns(TURNS, flood);
        wait_for(dropped + FLOOD * TURNS as u64, full);
        assert_eq!(world.sent(2), sent, "nothing fits any more");
        assert_eq!(world.senders(2), world.senders(4), "one worker sends by both");
        for n in [1, 3, 4] {
            assert_eq!(world.total(n, DropReason::TxQueueFull) + world.total(n, DropReason::HandoffFull), 0);
        }
        assert_eq!(world.total(2, DropReason::HandoffFull) + world.total(2, DropReason::TxRefused), 0);
        settle(world);

        // The queue goes, with what it held: there is room again.
        two.run("tc qdisc del dev eth0 clsact; tc qdisc del dev eth0 root");
        assert!(reaches(&two, 1) && reaches(&one, 2));
        assert_eq!(full(), dropped + FLOOD * TURNS as u64);
        (alone, beside)
    });
}

pub(crate) fn held_up(world: &mut World) {
    let (one, two, three) = (world.node(1), world.node(2), world.node(3));
    assert!(reaches(&one, 2) && reaches(&one, 3));
    assert_eq!(world.senders(1), world.senders(3));
    assert_ne!(world.senders(1), world.senders(2));
    let (flooder, sink) = (udp(&one, 1), udp(&two, 2));
    let address = sink.local_addr().unwrap();
    let flood = || flood(&flooder, address);
    let echo = Echo(udp(&one, 1), udp(&three, 3));
    let waiting = || u64::from(world.runtime.buffers().in_use);
    let full = || world.total(2, DropReason::HandoffFull);
    costs_others_nothing(|| {
        let alone = echo.turns(TURNS, flood);
        settle(world);
        let (sent, dropped) = (world.sent(2), full());

        let worker = format!("overlane-w{}", world.senders(2)[0]);
        let held = Held::thread(thread(std::process::id(), &worker));
        let beside = echo.turns(TURNS, flood);
        // What was handed over waits, as much as the ring takes; all else is dropped.
        wait_for(FLOOD * TURNS as u64, || full() - dropped + waiting());
        let kept = waiting();
        assert!((1_024..1_024 + 64).contains(&kept), "{kept} packets wait");
        assert_eq!(world.sent(2), sent);

        drop(held);
        wait_for(sent + kept, || world.sent(2));
        settle(world);
        assert!(reaches(&one, 2) && reaches(&two, 3));
        (alone, beside)
    });
}
