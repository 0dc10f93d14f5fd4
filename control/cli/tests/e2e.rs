//! End-to-end tests on real parts: engines, service, kernel stacks, an ordinary router. They need root, network
//! namespaces and the built binaries; where the machine lacks the former they are named as ignored, loudly.

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

#[path = "e2e/attacks/mod.rs"]
mod attacks;
#[path = "e2e/connectivity.rs"]
mod connectivity;
#[path = "e2e/dhcp.rs"]
mod dhcp;
#[path = "e2e/events.rs"]
mod events;
#[path = "e2e/externals.rs"]
mod externals;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/fixture.rs"]
mod fixture;
#[path = "e2e/groups.rs"]
mod groups;
#[path = "e2e/instruments.rs"]
mod instruments;
#[path = "e2e/isolation.rs"]
mod isolation;
#[path = "e2e/leftovers.rs"]
mod leftovers;
#[path = "e2e/malformed.rs"]
mod malformed;
#[path = "e2e/mtu.rs"]
mod mtu;
#[path = "e2e/on_demand.rs"]
mod on_demand;
#[path = "e2e/operation.rs"]
mod operation;
#[path = "e2e/rates.rs"]
mod rates;
#[path = "e2e/route.rs"]
mod route;
#[path = "e2e/routers.rs"]
mod routers;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/tap.rs"]
mod tap;
#[path = "e2e/trace.rs"]
mod trace;
#[path = "e2e/transport.rs"]
mod transport;
#[path = "e2e/uplink.rs"]
mod uplink;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Cases share one lab and the machine's processors: side by side they would measure each other.
    args.test_threads = Some(1);
    let obstacle = overlane_cli::lab::handle::require_machine().err();
    if let Some(obstacle) = &obstacle {
        eprintln!("\nEND-TO-END TESTS ARE NOT RUN on this machine: {obstacle:#}\n");
    }
    let cases = [
        instruments::CASES,
        leftovers::CASES,
        connectivity::CASES,
        transport::CASES,
        route::CASES,
        mtu::CASES,
        isolation::CASES,
        rules::CASES,
        attacks::tokens::CASES,
        attacks::certificates::CASES,
        dhcp::CASES,
        groups::CASES,
        routers::CASES,
        externals::CASES,
        rates::CASES,
        on_demand::CASES,
        trace::CASES,
        malformed::CASES,
        uplink::CASES,
        events::CASES,
        faults::CASES,
        tap::CASES,
        operation::CASES,
        attacks::from_nodes::CASES,
        attacks::arp::CASES,
        attacks::host_kernel::CASES,
        attacks::from_substrate::CASES,
        attacks::evasions::CASES,
    ]
    .concat();
    let trials = cases.into_iter().map(|case| {
        let trial = Trial::test(case.name(), move || case.run());
        trial.with_ignored_flag(obstacle.is_some())
    });
    let conclusion = libtest_mimic::run(&args, trials.collect());
    if let Err(error) = fixture::take_down().and(attacks::instrument::take_down()) {
        eprintln!("the lab of the end-to-end tests could not be taken down: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
