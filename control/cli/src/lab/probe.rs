//! Traffic between nodes, by the programs an operator would use: ping and iperf3.

use super::netns::Namespace;
use super::process::{Process, log_path};
use super::wait;
use anyhow::{Context, Result, bail, ensure};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// What a series of pings found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// Echo requests sent.
    pub sent: u32,
    /// Answers that came.
    pub received: u32,
    /// Average round trip in milliseconds; 0 without answers.
    pub average_ms: f64,
}

impl Ping {
    /// Whether every request was answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.sent > 0 && self.sent == self.received
    }
}

/// Sends `count` echo requests, 50 ms apart, and waits up to a second for each answer.
///
/// # Errors
/// If `ping` cannot run or says nothing that can be read.
pub fn ping(from: &Namespace, to: impl std::fmt::Display, count: u32) -> Result<Ping> {
    let to = to.to_string();
    let mut command = from.command("ping");
    command.args(["-n", "-q", "-i", "0.05", "-W", "1", "-c"]).arg(count.to_string()).arg(&to);
    let output = command.stdin(Stdio::null()).output().context("ping (of iputils-ping)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_ping(&text)
        .with_context(|| format!("ping {to} in {from}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Reads what ping sums up at its end.
pub(super) fn parse_ping(text: &str) -> Option<Ping> {
    let counts = text.lines().find(|line| line.contains(" packets transmitted"))?;
    let mut numbers = counts.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let sent = numbers.next()?.parse().ok()?;
    let received = numbers.next()?.parse().ok()?;
    // rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms
    let average =
        text.lines().find_map(|line| line.strip_prefix("rtt ")?.split_once(" = ")?.1.split('/').nth(1));
    Some(Ping { sent, received, average_ms: average.and_then(|ms| ms.parse().ok()).unwrap_or(0.0) })
}

/// Which way and by which protocol `iperf3` sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// TCP, as much as goes.
    Tcp,
    /// TCP from the server to the client.
    TcpReverse,
    /// UDP at this many megabits a second.
    Udp(u32),
    /// UDP from the server to the client.
    UdpReverse(u32),
}

/// What iperf3 measured at the receiver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Received, in bits a second.
    pub bits_per_second: f64,
    /// Received, in bytes.
    pub bytes: u64,
    /// Datagrams lost, in percent; 0 for TCP.
    pub lost_percent: f64,
}

/// An iperf3 server in a namespace, waiting for clients one after another.
#[derive(Debug)]
pub struct IperfServer {
    process: Process,
    port: u16,
}

impl IperfServer {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(state: &Path, label: &str, namespace: &Namespace, port: u16) -> Result<Self> {
        let name = format!("iperf3-{label}-{port}");
        Process::clear(state, &name)?;
        // A log of an earlier server must not be taken for this one's.
        let _ = std::fs::remove_file(log_path(state, &name));
        let mut command = namespace.command("iperf3");
        command.args(["--server", "--forceflush", "--port"]).arg(port.to_string());
        let process = Process::start(state, &name, command)?;
        let log = log_path(state, &name);
        let mut server = Self { process, port };
        wait::until("iperf3 to listen", Duration::from_secs(5), || {
            ensure!(server.process.is_running(), "iperf3 ended: {}", std::fs::read_to_string(&log)?);
            Ok(std::fs::read_to_string(&log)?.contains("Server listening").then_some(()))
        })
        .inspect_err(|_| {
            let _ = server.process.kill();
        })?;
        Ok(server)
    }

    /// Runs a client in `from` against this server at `to` for `seconds`.
    ///
    /// # Errors
    /// If iperf3 fails; its own message is told.
    pub fn load(&self, from: &Namespace, to: Ipv4Addr, load: Load, seconds: u32) -> Result<Throughput> {
        iperf(from, to, self.port, load, seconds)
    }
}

impl Drop for IperfServer {
    fn drop(&mut self) {
        // What does not end now ends with the lab.
        let _ = self.process.kill();
    }
}

/// Runs an iperf3 client.
///
/// # Errors
/// If iperf3 fails; its own message is told.
pub fn iperf(from: &Namespace, to: Ipv4Addr, port: u16, load: Load, seconds: u32) -> Result<Throughput> {
    // iperf3 itself waits for minutes when the other side falls silent.
    let mut command = from.command("timeout");
    command.arg(format!("{}", seconds + 10)).args([
        "iperf3",
        "--json",
        "--connect-timeout",
        "3000",
        "--client",
    ]);
    command.arg(to.to_string()).arg("--port").arg(port.to_string()).arg("--time").arg(seconds.to_string());
    if let Load::Udp(megabits) | Load::UdpReverse(megabits) = load {
        command.args(["--udp", "--bitrate"]).arg(format!("{megabits}M"));
    }
    if matches!(load, Load::TcpReverse | Load::UdpReverse(_)) {
        command.arg("--reverse");
    }
    let output = command.stdin(Stdio::null()).output().context("iperf3")?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("iperf3 in {from}: {}", String::from_utf8_lossy(&output.stderr)))?;
    if let Some(error) = report.get("error").and_then(|e| e.as_str()) {
        bail!("iperf3 from {from} to {to}:{port}: {error}");
    }
    parse_iperf(&report, load)
        .with_context(|| format!("iperf3 from {from} to {to}:{port}: no figures in its report"))
}

fn parse_iperf(report: &serde_json::Value, load: Load) -> Option<Throughput> {
    let end = report.get("end")?;
    let udp = matches!(load, Load::Udp(_) | Load::UdpReverse(_));
    // iperf3 before 3.13 tells what a UDP receiver saw in `sum`.
    let received = if udp { end.get("sum")? } else { end.get("sum_received")? };
    Some(Throughput {
        bits_per_second: received.get("bits_per_second")?.as_f64()?,
        bytes: received.get("bytes")?.as_u64()?,
        lost_percent: if udp { received.get("lost_percent")?.as_f64()? } else { 0.0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_report_is_read() {
        let text = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\n--- 10.0.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 received, 33.3333% packet loss, time 101ms\n\
                    rtt min/avg/max/mdev = 0.041/0.250/0.459/0.209 ms\n";
        assert_eq!(parse_ping(text), Some(Ping { sent: 3, received: 2, average_ms: 0.25 }));
        let text = "--- 10.0.0.9 ping statistics ---\n\
                    2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 1001ms\n";
        assert_eq!(parse_ping(text), Some(Ping { sent: 2, received: 0, average_ms: 0.0 }));
        assert_eq!(parse_ping("ping: connect: Network is unreachable"), None);
    }
}
