//! What nodes see of the way between them.

use crate::fixture::Case;
use anyhow::{Result, ensure};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::path::{DontFragment, ping_sized};

pub(crate) const CASES: &[Case] =
    &[Case::Shared("ttl_stays_within_a_host_and_goes_down_at_each_engine_and_router_across_hosts", ttl)];

fn ttl(lab: &Lab) -> Result<()> {
    let from = lab.namespace("acme-1");
    // Across hosts: each engine translates and takes one (RFC 7915, 4.1 and 5.1), and so does the router.
    for (to, left) in [("acme-2", 64), ("acme-3", 61)] {
        let result = ping_sized(&from, lab.node(to)?.ipv4, 2, 56, DontFragment::Discover)?;
        ensure!(result.ping.is_complete() && result.ttl == Some(left), "{to}: {result:?}");
    }
    for (to, ttl, arrives) in [("acme-2", "1", true), ("acme-3", "4", true), ("acme-3", "3", false)] {
        let mut command = from.command("ping");
        let target = lab.node(to)?.ipv4.to_string();
        let output = command.args(["-n", "-c", "1", "-W", "1", "-t", ttl, &target]).output()?;
        ensure!(output.status.success() == arrives, "{to} with a TTL of {ttl}: {output:?}");
    }
    Ok(())
}
