//! The real command, on captures that are written and read here by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The first is A's, the second B's.
pub(crate) const MAPS: &str = "
[[translate.map]]
ipv4 = \"198.51.100.0/24\"
ipv6 = \"2001:db8:1::/120\"
[[translate.map]]
ipv4 = \"192.0.2.0/24\"
ipv6 = \"64:ff9b::/120\"
";

/// What lies in front of each packet of a capture of frames: addresses, and the type.
pub(crate) const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
/// Link types.
pub(crate) const ETHERNET: u32 = 1;
pub(crate) const RAW: u32 = 101;

/// A packet of a capture: seconds and millionths, and the bytes.
pub(crate) type Captured = ((u32, u32), Vec<u8>);

/// A directory with a configuration and captures.
pub(crate) struct Place(TempDir);

/// What the command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) packets: Vec<Captured>,
    pub(crate) report: Vec<serde_json::Value>,
    pub(crate) summary: String,
}

impl Place {
    pub(crate) fn new(config: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("engine.toml"), config).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the command on `in.pcap`, with these arguments beside.
    pub(crate) fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overlane-engine"));
        command.arg("translate").arg("--config").arg(self.path("engine.toml"));
        command.arg("--from-pcap").arg(self.path("in.pcap"));
        command.args(more).current_dir(self.0.path()).output().unwrap()
    }

    /// As [`Place::run`] into `out.pcap` and `out.jsonl`: the exit status, and what it complains about.
    pub(crate) fn fails(&self, input: &[u8]) -> (Option<i32>, String) {
        fs::write(self.path("in.pcap"), input).unwrap();
        let output = self.run(&["--to-pcap", "out.pcap", "--report", "out.jsonl"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// What comes of a capture.
    #[track_caller]
    pub(crate) fn translate(&self, capture: &[u8]) -> Outcome {
        let (status, summary) = self.fails(capture);
        assert_eq!(status, Some(0), "{summary}");
        let written = fs::read(self.path("out.pcap")).unwrap();
        // All but the length of the longest packet.
        assert_eq!((&written[..16], &written[20..24]), (&capture[..16], &capture[20..24]));
        let report = fs::read_to_string(self.path("out.jsonl")).unwrap();
        let report = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Outcome { packets: packets(&written), report, summary }
    }
}

/// What comes of these packets of IP, a second apart; each without a frame around it.
#[track_caller]
pub(crate) fn translate(config: &str, packets: &[&[u8]]) -> Outcome {
    let packets: Vec<Captured> =
        packets.iter().zip(1..).map(|(packet, at)| ((at, 0), packet.to_vec())).collect();
    Place::new(config).translate(&capture(RAW, &packets))
}

impl Outcome {
    /// The bytes of what was written.
    pub(crate) fn bytes(&self) -> Vec<&[u8]> {
        self.packets.iter().map(|(_, bytes)| bytes.as_slice()).collect()
    }

    /// Verdict and reason of each packet that was read.
    pub(crate) fn verdicts(&self) -> Vec<(&str, Option<&str>)> {
        self.report.iter().map(|line| (line["verdict"].as_str().unwrap(), line["reason"].as_str())).collect()
    }
}

/// A capture, as tcpdump writes it on most machines.
pub(crate) fn capture(link: u32, packets: &[Captured]) -> Vec<u8> {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    bytes.extend(link.to_le_bytes());
    for ((seconds, millionths), packet) in packets {
        let length = packet.len() as u32;
        bytes.extend([*seconds, *millionths, length, length].map(u32::to_le_bytes).as_flattened());
        bytes.extend(packet);
    }
    bytes
}

/// The packets of such a capture.
pub(crate) fn packets(capture: &[u8]) -> Vec<Captured> {
    let (mut packets, mut rest) = (Vec::new(), &capture[24..]);
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(word(8), word(12));
        let end = 16 + word(8) as usize;
        packets.push(((word(0), word(4)), rest[16..end].to_vec()));
        rest = &rest[end..];
    }
    packets
}

/// What is in a directory besides.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
