//! What nodes' own programs find out about a path: ping with large packets, traceroute and tracepath.

use super::netns::Namespace;
use super::probe::{Ping, parse_ping};
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::process::Stdio;

/// Whether ping sets DF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DontFragment {
    /// On every packet: what is too large is not sent or is refused on the way.
    Always,
    /// On what fits: larger ones are cut up by the sender.
    Discover,
    /// Never.
    Never,
}

/// What pings of one size found.
#[derive(Debug, Clone, PartialEq)]
pub struct SizedPing {
    /// How many were answered.
    pub ping: Ping,
    /// TTL of the first answer.
    pub ttl: Option<u8>,
    /// Who said that a packet was too large, and the MTU that it told.
    pub too_large: Vec<(Ipv4Addr, u32)>,
    /// The MTU by which the sender's own kernel refused to send, if it did.
    pub refused: Option<u32>,
}

/// Sends `count` echo requests with `size` bytes of payload, 50 ms apart, and waits up to a second for each answer.
///
/// # Errors
/// If `ping` cannot run or says nothing that can be read.
pub fn ping_sized(
    from: &Namespace,
    to: Ipv4Addr,
    count: u32,
    size: u32,
    df: DontFragment,
) -> Result<SizedPing> {
    let mode = match df {
        DontFragment::Always => "do",
        DontFragment::Discover => "want",
        DontFragment::Never => "dont",
    };
    let (count, size) = (count.to_string(), size.to_string());
    let (text, errors) = output(
        from,
        "ping",
        &["-n", "-i", "0.05", "-W", "1", "-M", mode, "-s", &size, "-c", &count, &to.to_string()],
    )?;
    let ping = parse_ping(&text).with_context(|| format!("ping -s {size} {to} in {from}: {text}{errors}"))?;
    Ok(SizedPing {
        ping,
        ttl: text.lines().find_map(|line| line.split_once(" ttl=")?.1.split(' ').next()?.parse().ok()),
        too_large: text.lines().filter_map(parse_too_large).collect(),
        refused: errors
            .lines()
            .find_map(|line| line.split_once("message too long, mtu=")?.1.trim().parse().ok()),
    })
}

/// Reads `From 10.0.0.254 icmp_seq=1 Frag needed and DF set (mtu = 1280)`.
fn parse_too_large(line: &str) -> Option<(Ipv4Addr, u32)> {
    let (from, rest) = line.strip_prefix("From ")?.split_once(' ')?;
    let mtu = rest.split_once("Frag needed and DF set (mtu = ")?.1.strip_suffix(')')?;
    Some((from.parse().ok()?, mtu.parse().ok()?))
}

/// What traceroute sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// UDP datagrams to ports that nobody listens on.
    Udp,
    /// ICMP echo requests.
    Icmp,
    /// TCP SYNs to port 80.
    Tcp,
}

/// Hops that are looked at: more than a lab has.
const MOST_HOPS: &str = "8";

/// Who answered at each hop, the first one first; `None` where nobody did.
///
/// # Errors
/// If `traceroute` cannot run or says nothing that can be read.
pub fn traceroute(from: &Namespace, to: Ipv4Addr, probe: Probe) -> Result<Vec<Option<Ipv4Addr>>> {
    let to = to.to_string();
    // One probe for each hop, and one at a time, so that no rate limit of anybody on the way is met.
    let mut arguments = vec!["-n", "-q", "1", "-N", "1", "-w", "1", "-m", MOST_HOPS];
    match probe {
        Probe::Udp => {}
        Probe::Icmp => arguments.push("-I"),
        Probe::Tcp => arguments.push("-T"),
    }
    arguments.push(&to);
    let (text, errors) = output(from, "traceroute", &arguments)?;
    parse_traceroute(&text).with_context(|| format!("traceroute {to} in {from}: {text}{errors}"))
}

/// Reads lines like ` 1  10.0.0.254  0.123 ms` and ` 2  *` after the first one.
fn parse_traceroute(text: &str) -> Option<Vec<Option<Ipv4Addr>>> {
    let mut found = Vec::new();
    for (expected, line) in (1usize..).zip(text.lines().skip(1)) {
        let mut words = line.split_whitespace();
        if words.next()?.parse() != Ok(expected) {
            return None;
        }
        found.push(words.next()?.parse().ok());
    }
    (!found.is_empty()).then_some(found)
}

/// What tracepath found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedPath {
    /// The path's MTU.
    pub mtu: u32,
    /// Hops to the destination, itself included; `None` if it was not reached.
    pub hops: Option<u32>,
    /// Who answered at which hop, in the order of the answers.
    pub answers: Vec<(u32, Ipv4Addr)>,
    /// At which hop the MTU was found to be lower, and how low; the sender's own is at 1.
    pub lowered: Vec<(u32, u32)>,
}

/// Finds the MTU of a path and who is on it.
///
/// # Errors
/// If `tracepath` cannot run or says nothing that can be read.
pub fn tracepath(from: &Namespace, to: Ipv4Addr) -> Result<TracedPath> {
    let to = to.to_string();
    let (text, errors) = output(from, "tracepath", &["-n", "-m", MOST_HOPS, &to])?;
    parse_tracepath(&text).with_context(|| format!("tracepath {to} in {from}: {text}{errors}"))
}

/// Reads lines like ` 2:  10.0.0.254  0.123ms pmtu 1280` and the last one, `Resume: pmtu 1280 hops 4 back 4`.
fn parse_tracepath(text: &str) -> Option<TracedPath> {
    let after = |words: &[&str], word: &str| -> Option<u32> {
        let at = words.iter().position(|w| *w == word)?;
        words.get(at + 1)?.parse().ok()
    };
    let (mut answers, mut lowered, mut last) = (Vec::new(), Vec::new(), None);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"Resume:") {
            last = Some((after(&words, "pmtu")?, after(&words, "hops")));
            continue;
        }
        let Some(hop) = words.first().and_then(|w| w.trim_end_matches([':', '?']).parse().ok()) else {
            continue;
        };
        if let Some(address) = words.get(1).and_then(|word| word.parse().ok()) {
            answers.push((hop, address));
        }
        if let Some(mtu) = after(&words, "pmtu") {
            lowered.push((hop, mtu));
        }
    }
    let (mtu, hops) = last?;
    Some(TracedPath { mtu, hops, answers, lowered })
}

fn output(from: &Namespace, program: &str, arguments: &[&str]) -> Result<(String, String)> {
    // None of them may wait for long for what does not come.
    let mut command = from.command("timeout");
    let output = command.arg("30").arg(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| program.to_owned())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    #[test]
    fn a_report_of_a_too_large_packet_is_read() {
        let line = "From 10.0.0.254 icmp_seq=1 Frag needed and DF set (mtu = 1280)";
        assert_eq!(parse_too_large(line), Some((GATEWAY, 1280)));
        assert_eq!(parse_too_large("64 bytes from 10.0.0.3: icmp_seq=2 ttl=61 time=0.2 ms"), None);
    }

    #[test]
    fn hops_of_traceroute_are_read_with_the_silent_ones() {
        let text = "traceroute to 10.0.0.3 (10.0.0.3), 8 hops max, 60 byte packets\n 1  10.0.0.254  0.3 ms\n 2  *\n \
                    3  10.0.0.254  0.5 ms !X\n 4  10.0.0.3  0.6 ms\n";
        let hops = [Some(GATEWAY), None, Some(GATEWAY), Some(TARGET)];
        assert_eq!(parse_traceroute(text), Some(hops.to_vec()));
        assert_eq!(parse_traceroute("connect: Network is unreachable\n"), None);
    }

    #[test]
    fn a_path_is_read_with_the_hop_at_which_its_mtu_goes_down() {
        let text = " 1?: [LOCALHOST]                      pmtu 1500\n 1:  10.0.0.254      0.1ms pmtu 1480\n \
                    1:  10.0.0.254      0.1ms \n 2:  no reply\n 3:  10.0.0.254      0.2ms asymm  4 \n \
                    4:  10.0.0.3        0.3ms reached\n     Resume: pmtu 1480 hops 4 back 4 \n";
        let path = parse_tracepath(text).unwrap();
        assert_eq!((path.mtu, path.hops), (1480, Some(4)));
        assert_eq!(path.lowered, [(1, 1500), (1, 1480)]);
        assert_eq!(path.answers, [(1, GATEWAY), (1, GATEWAY), (3, GATEWAY), (4, TARGET)]);
        let lost = parse_tracepath(" 1:  no reply\n     Too many hops: pmtu 1480\n     Resume: pmtu 1480 \n")
            .unwrap();
        assert_eq!((lost.mtu, lost.hops), (1480, None));
    }
}
