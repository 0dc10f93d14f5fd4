//! The whole engine, as it is shipped: its exit codes, and two of it in static mode with a plain router between them.

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod common;
#[path = "engine/held_up.rs"]
mod held_up;

use common::site::{ENGINE, NODES, PACKET, Site};
use libtest_mimic::{Failed, Trial};
use overlane_api::pki::Authority;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the samples are.
const CONF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conf");

/// Runs one scenario to its end.
type Scenario = fn(&mut Site);

fn main() {
    if common::held::held_one() {
        return;
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = vec![
        Trial::test("wrong_configuration_exits_with_2_and_one_line", wrong_configuration),
        Trial::test("unusable_tls_files_exit_with_2_and_one_line", unusable_tls),
        Trial::test("check_config_finds_nothing_in_the_samples", samples),
    ];
    let real: [(&str, Scenario); 7] = [
        ("nodes_reach_each_other_within_a_host_and_across_hosts", reach),
        ("recreated_interface_is_attached_again_without_disturbing_others", recreated),
        ("site_file_is_read_again_on_sighup_and_a_bad_one_changes_nothing", reload),
        ("network_made_stateful_goes_by_flows_and_metrics_tell_them", flows),
        ("narrow_path_is_learned_and_shown_and_what_may_be_cut_fits_it", narrow),
        ("worker_that_stands_still_makes_the_engine_unready_until_all_is_caught_up", held_up::unready),
        ("sigterm_ends_the_engine_in_order_and_its_metrics_told_every_drop", ends),
    ];
    let root = nix::unistd::Uid::effective().is_root();
    for (name, scenario) in real {
        if !root {
            eprintln!("SKIPPED {name}: needs root, for network namespaces and packet sockets");
        }
        let trial = Trial::test(name, move || {
            scenario(&mut Site::new([PACKET; 2]));
            Ok(())
        });
        trials.push(trial.with_ignored_flag(!root));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn wrong_configuration() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("engine.toml");
    std::fs::write(&file, "[engine]\nhost = \"host-a\"\nspeed = 11\n")?;
    refuses(&file, &format!("{}:3: [engine] speed: unknown field 'speed'", file.display()))
}

/// Whether the engine says so in one line, and exits with 2, when it is to check the configuration and when it is to run.
fn refuses(file: &Path, wanted: &str) -> Result<(), Failed> {
    for command in [&["check-config"][..], &[]] {
        let output = Command::new(ENGINE).arg("--config").arg(file).args(command).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with(&format!("overlane-engine: {wanted}")), "{wanted:?} in {said}");
    }
    Ok(())
}

/// The sample, whose TLS files are these.
fn sample(directory: &Path, stem: &str) -> Result<PathBuf, Failed> {
    let file = directory.join("engine.toml");
    let text = std::fs::read_to_string(Path::new(CONF).join("engine.toml"))?;
    let text = text.replace("/etc/overlane/pki/host-a", stem).replace("/etc/overlane/pki/", "");
    std::fs::write(&file, text)?;
    Ok(file)
}

fn unusable_tls() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    Authority::generate("test")?.provision(directory, "other", &["host-b"])?;
    let place = |name: &str| format!("[provisioning]: {}: ", directory.join(name).display());
    refuses(&sample(directory, "absent")?, &(place("absent.crt") + "cannot read it"))?;
    let names = "must carry the DNS name \"host-a\", [engine] host, not \"host-b\"";
    refuses(&sample(directory, "other")?, &(place("other.crt") + names))?;
    std::fs::write(directory.join("ca.crt"), "no certificate")?;
    refuses(&sample(directory, "other")?, &place("ca.crt"))
}

fn samples() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    Authority::generate("test")?.provision(directory, "own", &["host-a"])?;
    let text =
        "[engine]\nhost = \"host-a\"\n[uplink]\nkind = \"packet\"\ndevice = \"eth0\"\n[provisioning]\n";
    let site = directory.join("site.toml");
    std::fs::write(
        &site,
        format!("{text}file = {:?}\n", Path::new(CONF).join("static.toml").canonicalize()?),
    )?;
    for file in [sample(directory, "own")?, site] {
        let output = Command::new(ENGINE).arg("--config").arg(&file).arg("check-config").output()?;
        assert!(output.status.success(), "{output:?}");
    }
    Ok(())
}

fn reach(site: &mut Site) {
    site.reaches(0, 7);
    site.reaches(0, 6);
    site.reaches(1, 7);
    // The host's own kernel is none of the vnet's.
    let (reached, text) = site.pings(0, 1, 1);
    assert!(!reached, "{text}");
    site.wait_for(0, "/metrics", "reason=\"gateway_itself\",port=\"n5/eth0\",vnet=\"7\"} 1\n");
}

fn recreated(site: &mut Site) {
    site.reaches(0, 6);
    site.hosts[0].run("ip link del veth-n5");
    site.wait_for(0, "/metrics", "overlane_interfaces{state=\"gone\"} 1\n");
    site.reaches(2, 6);
    site.plug(NODES[0], 0);
    site.wait_for(0, "/metrics", "overlane_interfaces{state=\"live\"} 2\n");
    site.reaches(0, 6);
    site.reaches(0, 7);
}

fn reload(site: &mut Site) {
    use nix::sys::signal::Signal::SIGHUP;
    site.reaches(0, 7);
    std::fs::write(site.file("site.toml"), "layout = \"slot65\"\n").unwrap();
    site.signal(0, SIGHUP);
    let why = "site.toml:1: layout: must be slot64, plain72 or plain64";
    site.wait_for(0, "/status", why);
    site.reaches(0, 7);
    site.write_site(&NODES[..2]);
    site.signal(0, SIGHUP);
    site.wait_for(0, "/metrics", "overlane_mappings 2\n");
    site.wait_for(0, "/metrics", "overlane_revision 2\n");
    let (reached, text) = site.pings(0, 7, 1);
    assert!(!reached, "{text}");
    site.reaches(0, 6);
    site.write_site(&NODES);
    site.signal(0, SIGHUP);
    site.wait_for(0, "/metrics", "overlane_interfaces{state=\"live\"} 2\n");
    site.reaches(0, 7);
}

fn flows(site: &mut Site) {
    site.reaches(0, 7);
    site.wait_for(0, "/metrics", "overlane_flows_inserted_total 0\n");
    let file = site.file("site.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("vnet = 7\n", "vnet = 7\nstateful = true\n")).unwrap();
    for host in 0..2 {
        site.signal(host, nix::sys::signal::Signal::SIGHUP);
        site.wait_for(host, "/metrics", "overlane_revision 2\n");
    }
    // A ping has one identifier; a stream goes both ways, in large packets too.
    site.reaches(0, 6);
    site.streams(0, 1, 1 << 20);
    for host in 0..2 {
        site.wait_for(host, "/metrics", "overlane_flows_inserted_total 2\n");
        site.wait_for(host, "/status", "\"flows\":{");
    }
    // Within a host as well, and the other host hears nothing of it.
    site.reaches(0, 7);
    site.wait_for(0, "/metrics", "overlane_flows_inserted_total 3\n");
    site.wait_for(1, "/metrics", "overlane_flows_inserted_total 2\n");
}

fn narrow(site: &mut Site) {
    site.reaches(0, 6);
    site.hosts[1].run("ip link set up0 mtu 1300");
    site.router.run("ip link set to-b mtu 1300");
    site.wait_for(1, "/status", "\"node_mtu\":1280");
    // 1,400 bytes of IPv4, which are 1,420 on the substrate.
    let ping =
        |fragment: &str| site.nodes[0].attempt(&format!("ping -n -c 1 -W 2 -M {fragment} -s 1372 10.0.0.6"));
    let (reached, text) = ping("do");
    assert!(!reached && text.contains("mtu = 1280"), "{text}");
    site.wait_for(0, "/metrics", "overlane_narrow_paths 1\n");
    let status = site.ask(0, "/status");
    let path = "\"paths\":[{\"host\":\"fd00:0:0:b::/64\",\"mtu\":1300,\"seconds_left\":";
    assert!(status.contains(path) && status.contains("\"node_mtu\":1480"), "{status}");
    // The node forgets; the engine cuts what may be cut, and answers by itself what may not.
    site.nodes[0].run("ip route flush cache");
    let (reached, text) = ping("dont");
    assert!(reached, "{text}");
    let (reached, text) = ping("do");
    assert!(!reached && text.contains("mtu = 1280"), "{text}");
    let answered = "overlane_icmp_errors_total{result=\"sent\",port=\"n5/eth0\",vnet=\"7\"} 1\n";
    site.wait_for(0, "/metrics", answered);
}

fn ends(site: &mut Site) {
    site.reaches(0, 6);
    // A node that takes another's address is dropped and counted.
    site.nodes[0].run("ip addr add 10.0.0.99/24 dev eth0");
    let _ = site.nodes[0].attempt("ping -n -c 2 -i 0.05 -W 1 -I 10.0.0.99 10.0.0.6");
    site.wait_for(0, "/metrics", "reason=\"src_ipv4_spoofed\",port=\"n5/eth0\",vnet=\"7\"} 2\n");
    site.end();
}
