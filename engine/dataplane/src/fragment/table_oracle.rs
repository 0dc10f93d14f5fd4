//! The table beside a list of lists: every datagram with every fragment that was seen of it, searched from the front.

use super::*;
use proptest::prelude::*;

const DATAGRAMS: usize = 5;
const HELD: usize = 6;

/// A datagram, and all that was seen of it.
struct Record {
    key: Key,
    begun: Duration,
    waiting: bool,
    spoilt: Option<DropReason>,
    /// Places in units of eight bytes, without end.
    seen: Vec<(u16, u16)>,
    length: Option<u16>,
    held: Vec<Name>,
}

/// The records in the order in which they began.
#[derive(Default)]
struct Oracle {
    records: Vec<Record>,
    lost: Vec<(DropReason, Name)>,
}

impl Record {
    fn fit(&self, part: Part) -> Fit {
        let units = part.start..part.end;
        let seen = |unit: u16| self.seen.iter().any(|(start, end)| (*start..*end).contains(&unit));
        let first = self.seen.iter().find(|(start, _)| *start == 0).map_or(0, |(_, end)| *end);
        let alone = |(start, end): (u16, u16)| !seen(end) && (start == 0 || !seen(start - 1));
        let within = |(start, end): (u16, u16)| start <= part.start && part.end <= end;
        let in_one = self.seen.iter().any(|place| within(*place) && alone(*place));
        if !units.clone().any(seen) {
            Fit::New
        } else if self.seen.contains(&(part.start, part.end)) {
            Fit::Duplicate
        } else if part.start < first || in_one || !units.clone().all(seen) {
            Fit::Overlap
        } else {
            Fit::Duplicate
        }
    }

    fn contradicts(&self, part: Part) -> bool {
        match self.length {
            Some(length) => {
                if part.more {
                    part.bytes >= length
                } else {
                    part.bytes != length
                }
            }
            None => !part.more && self.seen.iter().any(|(_, end)| end * 8 >= part.bytes),
        }
    }

    fn is_whole(&self) -> bool {
        let seen = |unit: u16| self.seen.iter().any(|(start, end)| (*start..*end).contains(&unit));
        self.length.is_some_and(|length| (0..length.div_ceil(8)).all(seen))
    }
}

impl Oracle {
    fn held(&self) -> usize {
        self.records.iter().map(|record| record.held.len()).sum()
    }

    fn find(&mut self, key: &Key) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.key == *key)
    }

    fn forget(&mut self, place: usize, reason: DropReason) {
        let record = self.records.remove(place);
        self.lost.extend(record.held.into_iter().map(|name| (reason, name)));
    }

    fn expire(&mut self, now: Duration) {
        while let Some(place) = self.records.iter().position(|record| now - record.begun >= TIMEOUT) {
            self.forget(place, DropReason::FragmentWithoutFirst);
        }
    }

    fn spoil(&mut self, key: &Key, reason: DropReason) {
        let Some(record) = self.find(key) else { return };
        (record.waiting, record.spoilt) = (false, Some(reason));
        let held = std::mem::take(&mut record.held);
        self.lost.extend(held.into_iter().map(|name| (reason, name)));
    }

    /// The lane that has the most, and if it is several, that of `key` or the first one.
    fn most(&self, lane: &dyn Fn(&Key) -> usize, key: &Key, of: impl Fn(&Record) -> usize) -> usize {
        let count = |number: usize| {
            self.records.iter().filter(|record| lane(&record.key) == number).map(&of).sum::<usize>()
        };
        let most = |number: &usize| (count(*number), *number == lane(key), LANES - number);
        self.records.iter().map(|record| lane(&record.key)).max_by_key(most).unwrap()
    }

    fn judge(
        &mut self,
        now: Duration,
        lane: &dyn Fn(&Key) -> usize,
        key: &Key,
        part: Part,
    ) -> Result<Verdict, DropReason> {
        if part.is_whole() {
            return PASS;
        }
        if self.find(key).is_some_and(|record| now - record.begun >= TIMEOUT) {
            let place = self.records.iter().position(|record| record.key == *key).unwrap();
            self.forget(place, DropReason::FragmentWithoutFirst);
        }
        if let Some(record) = self.find(key) {
            if let Some(reason) = record.spoilt {
                return Err(reason);
            }
            let contradicts = record.contradicts(part);
            match record.fit(part) {
                _ if contradicts => {
                    self.spoil(key, DropReason::FragmentMalformed);
                    return MALFORMED;
                }
                Fit::Overlap => {
                    self.spoil(key, DropReason::FragmentOverlap);
                    return OVERLAP;
                }
                Fit::Duplicate => return OVERLAP,
                Fit::New | Fit::Full => {}
            }
        }
        let waits = part.start > 0 && self.find(key).is_none_or(|record| record.waiting);
        if waits && self.held() == HELD {
            self.expire(now);
        }
        if waits && self.held() == HELD {
            let most = self.most(lane, key, |record| record.held.len());
            let victim = self
                .records
                .iter()
                .position(|record| lane(&record.key) == most && record.waiting && record.key != *key);
            let Some(victim) = victim else { return FULL };
            self.forget(victim, DropReason::FragmentTableFull);
        }
        if self.find(key).is_none() {
            if self.records.len() == DATAGRAMS {
                self.expire(now);
            }
            if self.records.len() == DATAGRAMS {
                let most = self.most(lane, key, |_| 1);
                let victim = self.records.iter().position(|record| lane(&record.key) == most).unwrap();
                self.forget(victim, DropReason::FragmentTableFull);
            }
            let (seen, held) = (vec![], vec![]);
            self.records.push(Record {
                key: *key,
                begun: now,
                waiting: true,
                spoilt: None,
                seen,
                length: None,
                held,
            });
        }
        let record = self.find(key).unwrap();
        if part.start == 0 {
            record.waiting = false;
            record.seen.clear();
        }
        record.seen.push((part.start, part.end));
        if !part.more {
            record.length = Some(part.bytes);
        }
        if record.waiting {
            record.held.push((key.identification, part.start));
            return HOLD;
        }
        if part.start == 0 && !record.held.is_empty() {
            return PASS_AND_RELEASE;
        }
        if record.is_whole() && record.held.is_empty() {
            self.records.retain(|record| record.key != *key);
        }
        PASS
    }
}

#[derive(Debug, Clone)]
enum Step {
    Judge {
        key: (u16, u32),
        part: Part,
    },
    /// All that is to be released is, and comes again.
    Release,
    Refuse {
        key: (u16, u32),
    },
    Wait {
        millis: u64,
    },
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let part =
        (0u16..9, 1u16..5, prop::bool::weighted(0.75), 0u16..8).prop_map(|(start, length, more, less)| {
            Part::new_checked(200, start, more, length * 8 - if more { 0 } else { less }).unwrap()
        });
    let key = || (0u16..3, 0u32..3);
    let step = prop_oneof![
        24 => (key(), part).prop_map(|(key, part)| Step::Judge { key, part }),
        4 => Just(Step::Release),
        1 => key().prop_map(|key| Step::Refuse { key }),
        2 => (0u64..900).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Expire),
    ];
    prop::collection::vec(step, 0..120)
}

/// Carries the steps out on both, and compares all that can be seen of them after each.
fn compare(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut world, mut oracle) = (World::new(DATAGRAMS, HELD), Oracle::default());
    let lanes = [0, 1, 2].map(|port| world.table.lane(&key(port, 0)));
    let lane = |key: &Key| lanes[key.port.index()];
    // What each held packet is, and whose first fragment has come.
    let mut parts = Vec::<(Key, Part)>::new();
    let mut to_release = Vec::<Key>::new();
    for step in steps {
        let mut judged = vec![];
        match step {
            Step::Judge { key: (port, id), part } => judged.push((key(port, id), part)),
            Step::Release => {
                for key in to_release.drain(..) {
                    let record = oracle.find(&key).filter(|record| !record.waiting);
                    let expected = record.map_or(vec![], |record| std::mem::take(&mut record.held));
                    let released = world.release(&key);
                    prop_assert_eq!(&released, &expected.iter().map(|(_, place)| *place).collect::<Vec<_>>());
                    let is = |known: &Key, part: Part, place| *known == key && part.start == place;
                    for place in released {
                        judged.push(*parts.iter().rfind(|(known, part)| is(known, *part, place)).unwrap());
                    }
                }
            }
            Step::Refuse { key: (port, id) } => {
                let (key, reason) = (key(port, id), DropReason::NoMapping);
                oracle.spoil(&key, reason);
                let World { table, lost, .. } = &mut world;
                table.refuse(&key, reason, &mut |_: &Key, reason, packet| lost.push((reason, name(&packet))));
            }
            Step::Wait { millis } => world.now += Duration::from_millis(millis),
            Step::Expire => {
                oracle.expire(world.now);
                world.wait(0);
            }
        }
        for (key, part) in judged {
            let verdict = world.judge(&key, part);
            prop_assert_eq!(verdict, oracle.judge(world.now, &lane, &key, part), "{:?} {:?}", key, part);
            match verdict {
                HOLD => parts.push((key, part)),
                PASS_AND_RELEASE => to_release.push(key),
                _ => {}
            }
        }
        prop_assert_eq!(&world.lost, &oracle.lost);
        prop_assert_eq!(world.pool.outstanding(), oracle.held());
        prop_assert_eq!(world.datagrams(), oracle.records.len());
        prop_assert!(oracle.held() <= HELD && oracle.records.len() <= DATAGRAMS);
    }
    let World { table, pool, .. } = world;
    drop(table);
    prop_assert_eq!(pool.outstanding(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn table_does_what_the_list_of_everything_does(steps in steps()) {
        compare(steps)?;
    }
}
