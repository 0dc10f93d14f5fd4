//! The crate against real DPDK and a real kernel, in one process, as DPDK allows one environment per process.
//!
//! Every case is its own test of the harness. Those that need network namespaces need root; without, they are
//! ignored and say so on standard error.

use std::sync::OnceLock;

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use overlane_dpdk::{Eal, EalOptions, Hugepages, Mempool, MempoolOptions};

mod mbuf;

/// One case: its name and body.
type Case = (&'static str, fn(&Bench));

/// What every case works with.
pub(crate) struct Bench {
    pub(crate) eal: Eal,
}

impl Bench {
    /// A pool for one case.
    pub(crate) fn pool(&self, name: &str) -> Mempool {
        Mempool::new(&self.eal, name, &MempoolOptions { size: 1_023, data_room: 2_048, cache: 0 }).unwrap()
    }
}

fn main() {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let cases: Vec<Case> = [mbuf::CASES].concat();
    let trials = cases.into_iter().map(|(name, body)| Trial::test(name, move || run(body)));
    let conclusion: Conclusion = libtest_mimic::run(&arguments, trials.collect());
    conclusion.exit();
}

fn run(body: fn(&Bench)) -> Result<(), Failed> {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    let bench = BENCH.get_or_init(|| {
        let options = EalOptions { memory_mib: 128, hugepages: Hugepages::Auto, ..EalOptions::default() };
        Bench { eal: Eal::init(options).unwrap() }
    });
    body(bench);
    Ok(())
}
