//! An engine whose worker stands still while the site changes.

use super::common::held::{Held, thread};
use super::common::site::{NODES, Site};
use nix::sys::signal::Signal::SIGHUP;
use std::fmt::Write;

/// Nodes elsewhere: more than the 65,536 values that may wait for a worker.
const NODES_ELSEWHERE: u32 = 66_000;

/// Writes the site with many nodes on `host-c`, whose prefix has this number, and with node 6 on `host`.
fn write(site: &Site, number: u32, host: &str) {
    site.write_site(&NODES);
    let file = site.file("site.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text = text.replace("cidr = \"10.0.0.0/24\"", "cidr = \"10.0.0.0/8\"");
    let six = "id = \"n6/eth0\"\nhost = \"host-b\"";
    assert!(text.contains(six));
    text = text.replace(six, &format!("id = \"n6/eth0\"\nhost = \"{host}\""));
    writeln!(text, "[[host]]\nid = \"host-c\"\nprefix = \"fd00:0:1:{number}::/64\"").unwrap();
    for node in 0..NODES_ELSEWHERE {
        let (low, slot) = (std::net::Ipv4Addr::from_bits(0x0a01_0000 + node), 8 + node % 8);
        writeln!(
            text,
            "[[mapping]]\nnetwork = \"red\"\naddress = \"{low}\"\nhost = \"host-c\"\nslot = {slot}"
        )
        .unwrap();
    }
    std::fs::write(file, text).unwrap();
}

pub(crate) fn unready(site: &mut Site) {
    // One that sleeps is offline, and holds nothing back however long it sleeps.
    site.idle[0] = "spin";
    site.kill_and_start('a');
    site.wait_ready();
    write(site, 1, "host-b");
    site.signal(0, SIGHUP);
    site.wait_for(0, "/metrics", "overlane_revision 2\n");
    site.wait_for(0, "/readyz", "ready\n");
    site.reaches(0, 6);

    let held = Held::thread(thread(site.process(0), "overlane-w0"));
    let silent = "reader worker 0 has announced no quiescent state for ";
    site.wait_for(0, "/readyz", silent);
    // Each revision changes every mapping. The first fills limbo, so what the second says has to wait: that node 6 is where
    // nobody is. The third takes that back.
    for (revision, host) in [(3, "host-b"), (4, "host-c"), (5, "host-b")] {
        write(site, revision, host);
        site.signal(0, SIGHUP);
        site.wait_for(0, "/metrics", &format!("overlane_revision {revision}\n"));
    }
    let behind = "mapping table: reclaiming memory is behind\n";
    site.wait_for(0, "/readyz", behind);
    let reasons = site.ask(0, "/readyz");
    assert!(reasons.contains(silent) && !reasons.contains("ready\n"), "{reasons}");
    site.wait_for(0, "/metrics", "overlane_ready 0\n");
    // It is alive, so nobody has to start it again.
    assert_eq!(site.ask(0, "/livez"), "live\n");

    drop(held);
    site.wait_for(0, "/readyz", "ready\n");
    site.wait_for(0, "/metrics", "overlane_ready 1\n");
    site.reaches(0, 6);
    site.end();
}
