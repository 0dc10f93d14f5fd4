//! The table beside a map that does the same slowly.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside test functions")]

use super::state::GRAIN;
use super::tests::{Bed, TIMEOUTS, key};
use super::{Observed, Sign};
use crate::wire::protocol;
use crate::wire::tcp::flag::{ACK, FIN, RST, SYN};
use hashbrown::HashMap;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// A packet: flow, whether it goes back, its flags.
    Packet(u32, bool, u8),
    Wait(u64),
    Turn,
    Around,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![Just(SYN), Just(SYN | ACK), Just(ACK), Just(FIN | ACK), Just(RST), Just(0)];
    prop_oneof![
        12 => (0u32..60, any::<bool>(), flags).prop_map(|(flow, back, flags)| Step::Packet(flow, back, flags)),
        2 => (0u64..1500).prop_map(Step::Wait),
        2 => Just(Step::Turn),
        1 => Just(Step::Around),
    ]
}

/// A flow as the oracle knows it: packets of each direction, and when the last one came.
#[derive(Debug, Clone, Default)]
struct Model {
    flags: [Vec<u8>; 2],
    last: u64,
}

impl Model {
    fn has(&self, direction: usize, flag: u8) -> bool {
        self.flags.get(direction).unwrap().iter().any(|flags| flags & flag != 0)
    }

    fn timeout(&self, protocol: u8) -> u64 {
        let timeout = if protocol == protocol::UDP {
            TIMEOUTS.udp
        } else if self.is_closed() {
            TIMEOUTS.tcp_closing
        } else if self.has(0, ACK) && self.has(1, ACK) {
            TIMEOUTS.tcp_established
        } else {
            TIMEOUTS.tcp_half_open
        };
        timeout.into()
    }

    fn is_closed(&self) -> bool {
        self.has(0, RST) || self.has(1, RST) || self.has(0, FIN) && self.has(1, FIN)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn does_what_a_map_does(steps in prop::collection::vec(step(), 1..300)) {
        // Room enough that nothing has to make way.
        let mut bed = Bed::new(128, 256, 0);
        let mut oracle: HashMap<u32, Model> = HashMap::new();
        for step in steps {
            match step {
                Step::Packet(number, back, flags) => {
                    let protocol = if number % 2 == 0 { protocol::TCP } else { protocol::UDP };
                    let sign = if number % 2 == 0 { Sign::tcp(flags) } else { Sign::DATAGRAM };
                    let (key, there) = key(protocol, number);
                    let direction = if back { there.reverse() } else { there };
                    let flow = bed.table.lookup(&bed.reader, key);
                    let grain = u64::from(GRAIN);
                    let known = oracle.get(&number);
                    if let Some(model) = known {
                        // When it was last seen is known to the table up to the grain.
                        let idle = bed.now.0 - model.last;
                        let (surely, perhaps) = (idle > model.timeout(protocol) + grain, idle > model.timeout(protocol));
                        prop_assume!(surely == perhaps);
                        let successor = surely
                            || protocol == protocol::TCP && model.is_closed() && flags & (SYN | ACK | RST) == SYN;
                        match flow {
                            None => prop_assert!(surely, "gone before its time"),
                            Some(flow) => {
                                let observed = flow.observe(direction, sign, bed.now, &TIMEOUTS);
                                prop_assert_eq!(observed == Observed::Successor, successor);
                                if successor {
                                    prop_assert!(bed.worker.remove(&bed.reader, flow));
                                }
                            }
                        }
                        if successor {
                            oracle.remove(&number);
                        }
                    } else {
                        prop_assert!(flow.is_none());
                    }
                    let is_new = !oracle.contains_key(&number);
                    let new = super::tests::new(direction, sign);
                    let inserted = bed.worker.insert(&bed.table, &bed.reader, key, &new, bed.now);
                    let (flow, inserted) = inserted.unwrap();
                    prop_assert_eq!((inserted, flow.key()), (is_new, key));
                    let model = oracle.entry(number).or_default();
                    let direction = usize::from(back);
                    model.flags.get_mut(direction).unwrap().push(flags);
                    model.last = bed.now.0;
                }
                Step::Wait(ticks) => bed.now.0 += ticks,
                Step::Turn => bed.turn(),
                Step::Around => {
                    bed.around();
                    for (number, model) in &oracle {
                        let protocol = if number % 2 == 0 { protocol::TCP } else { protocol::UDP };
                        // The hand has passed between the beginning of this step and now.
                        let idle = bed.now.0 - model.last;
                        if idle <= model.timeout(protocol) {
                            prop_assert!(bed.has(protocol, *number));
                        } else if idle > model.timeout(protocol) + 2048 {
                            prop_assert!(!bed.has(protocol, *number));
                        }
                    }
                }
            }
        }
        prop_assert_eq!(bed.table.totals().evicted, [0; 3]);
        bed.check();
    }
}
