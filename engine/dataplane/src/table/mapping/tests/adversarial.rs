//! One tenant chooses its addresses to slow down look-ups of another's, and cannot, since the hash is keyed.
//!
//! Measured in buckets that a look-up looks at, so that it is the same on every machine.

use super::super::hash::Hasher;
use super::super::lines::{EMPTY, Lines, PROBES, WAYS};
use super::*;
use core::sync::atomic::Ordering;

/// Addresses that the one tenant chooses, and those of the other that are there, and that are looked for in vain.
const CHOSEN: u32 = 60_000;
const OTHERS: u32 = 10_000;

const SEEDS: [[u64; 2]; 8] =
    [SEED, [0, 0], [1, 2], [3, 1], [!0, 0], [1 << 63, 7], [0x5555_5555, 0xaaaa_aaaa], [42, 42]];

/// How a tenant chooses the n-th address, given how many buckets there are.
type Choice = fn(u32, u32) -> u32;

const CHOICES: [(&str, Choice); 10] = [
    ("one after the other", |n, _| n),
    ("every 16th", |n, _| n << 4),
    ("every 256th", |n, _| n << 8),
    ("every 4,096th", |n, _| n << 12),
    ("every 65,536th", |n, _| n << 16),
    ("multiples of the number of buckets", |n, homes| n * homes),
    ("the low 12 bits are the same", |n, _| scrambled(n) << 12 | 0xabc),
    ("the high 15 bits are the same", |n, _| 10 << 24 | scrambled(n) & 0x1_ffff),
    ("bits in reverse", |n, _| n.reverse_bits()),
    ("every other bit", |n, _| (0..16).fold(0, |word, bit| word | (n >> bit & 1) << (2 * bit))),
];

/// Another order of the numbers below 2^17, and of those below 2^20.
fn scrambled(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1)
}

/// Any address, the same one for no two numbers (the finaliser of MurmurHash3, which can be undone).
fn random(n: u32) -> u32 {
    let n = (n ^ (n >> 16)).wrapping_mul(0x85eb_ca6b);
    let n = (n ^ (n >> 13)).wrapping_mul(0xc2b2_ae35);
    n ^ (n >> 16)
}

fn key(vnet: u32, address: u32) -> MappingKey {
    MappingKey::new(VnetId::new(vnet).unwrap(), Ipv4Addr::from_bits(address))
}

/// Buckets that a look-up looks at, as `Lines::find` does: until the key or an empty word is found.
fn search_length(lines: &Lines, key: MappingKey) -> usize {
    let home = lines.home(key.word());
    let ends = |bucket| {
        let keys = lines.line(bucket).words.iter().take(WAYS);
        let mut words = keys.map(|word| word.load(Ordering::Relaxed));
        words.any(|word| word == key.word() || word == EMPTY)
    };
    (home..).take(PROBES).position(ends).map_or(PROBES, |passed| passed + 1)
}

/// What look-ups of the other tenant's keys cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    mean: f64,
    longest: usize,
}

fn homes() -> u32 {
    let domain = Domain::new(1, 1);
    Writer::<u32>::new(&domain, (CHOSEN + OTHERS) as usize, SEED).0.lines().homes()
}

/// Fills a table, the other tenant's keys last, so that they have to take what is left; `None` if the table had to grow
/// beyond what it was made for.
fn cost(seed: [u64; 2], chosen: impl Iterator<Item = u32>) -> Option<Cost> {
    let domain = Domain::new(1, 1);
    let (mut writer, _table) = Writer::new(&domain, (CHOSEN + OTHERS) as usize, seed);
    for address in chosen {
        writer.insert(key(1, address), 0).ok()?;
    }
    for n in 0..OTHERS {
        writer.insert(key(2, random(n)), 0).ok()?;
    }
    assert!(writer.len() == (CHOSEN + OTHERS) as usize, "no address was chosen twice");
    let lengths = (0..2 * OTHERS).map(|n| search_length(writer.lines(), key(2, random(n))));
    let (sum, longest) = lengths.fold((0, 0), |(sum, longest), length| (sum + length, length.max(longest)));
    let mean = sum as f64 / f64::from(2 * OTHERS);
    (writer.generation() == 0).then_some(Cost { mean, longest })
}

/// The probability that a search passes `passed` full buckets, or more; not less than it is.
///
/// If so, then the search is within a run of full buckets that no key has come into from before it. Let the run's first
/// `m` buckets, at least `passed` of them, be those up to where the search is: they hold `WAYS` m keys, all of them at home in
/// these buckets. The number of keys at home in m buckets is binomial if the hash is random, and beyond its mean a binomial
/// distribution's tail is below the Poisson distribution's (Anderson and Samuels, 1967). Any m will do: their sum.
fn passes(passed: u32) -> f64 {
    let per_bucket = f64::from(CHOSEN + OTHERS) / f64::from(homes());
    (passed..passed + 50).map(|m| poisson_tail(per_bucket * f64::from(m), m * WAYS as u32)).sum()
}

/// The probability of `least` or more events, of which `mean` are expected.
fn poisson_tail(mean: f64, least: u32) -> f64 {
    let first: f64 = -mean + (1..=least).map(|n| (mean / f64::from(n)).ln()).sum::<f64>();
    let ratios = (least + 1..least + 500).map(|n| mean / f64::from(n));
    first.exp()
        * (1.0
            + ratios
                .scan(1.0, |term, ratio| {
                    *term *= ratio;
                    Some(*term)
                })
                .sum::<f64>())
}

/// The mean and the longest search that a random hash stays within: the mean for sure, the longest in 19 of 20 tables or
/// more.
fn bounds() -> Cost {
    let mean = 1.0 + (1..50).map(passes).sum::<f64>();
    let longest = (1..).find(|length| f64::from(2 * OTHERS) * passes(*length) < 0.05).unwrap();
    Cost { mean, longest: longest as usize }
}

#[test]
fn a_tenant_cannot_choose_addresses_that_slow_down_look_ups_of_anothers() {
    let bounds = bounds();
    let seeds = SEEDS.len() as f64;
    let by_chance = SEEDS.map(|seed| cost(seed, (1 << 20..).take(CHOSEN as usize).map(random)).unwrap());
    let chance = by_chance.iter().map(|cost| cost.mean).sum::<f64>() / seeds;
    let variance = by_chance.iter().map(|cost| (cost.mean - chance).powi(2)).sum::<f64>() / (seeds - 1.0);
    let longest = by_chance.iter().map(|cost| cost.longest).max().unwrap();
    // Of the difference between two means over all seeds.
    let noise = (2.0 * variance / seeds).sqrt();
    println!("bounds {bounds:?}; random: {chance:.4}, give or take {noise:.4}, longest {longest}");
    // Also one that knows the hash function, the number of buckets and everything but the seed.
    let guessed = Lines::new(homes(), Hasher::new([0xdead, 0xbeef]));
    let piled = pile(&guessed);
    let homes = homes();
    let by_rule = CHOICES.map(|(name, choice)| (name, (0..CHOSEN).map(|n| choice(n, homes)).collect()));
    for (name, addresses) in by_rule.into_iter().chain([("one pile under another seed", piled)]) {
        let costs = SEEDS.map(|seed| {
            let cost = cost(seed, addresses.iter().copied());
            cost.unwrap_or_else(|| panic!("{name}: the table had to grow, with seed {seed:?}"))
        });
        let mean = costs.iter().map(|cost| cost.mean).sum::<f64>() / seeds;
        let longest = costs.iter().map(|cost| cost.longest).max().unwrap();
        println!("{name}: {mean:.4}, longest {longest}");
        assert!(costs.iter().all(|cost| cost.mean <= bounds.mean), "{name}: {costs:?} beyond {bounds:?}");
        assert!(longest <= bounds.longest, "{name}: {costs:?} beyond {bounds:?}");
        assert!(mean - chance < 4.0 * noise, "{name}: {mean} against {chance}, give or take {noise}");
    }
}

/// Addresses whose home is in the first eighth of the lines.
fn pile(lines: &Lines) -> Vec<u32> {
    let here = |address: &u32| lines.home(key(1, *address).word()) < lines.homes() / 8;
    (0..).filter(here).take(CHOSEN as usize).collect()
}

#[test]
fn who_knows_the_seed_can_choose_addresses_that_pile_up() {
    // So the measure above sees it, and the seed has to be secret.
    let known = Lines::new(homes(), Hasher::new(SEED));
    let bounds = bounds();
    let cost = cost(SEED, pile(&known).into_iter());
    assert!(cost.is_none_or(|cost| cost.longest > bounds.longest), "{cost:?}");
}
