//! `overlane-engine translate`: the packets of a capture through the worker's translator, and what came of each.
//!
//! It needs no privileges, no DPDK and no running engine: packets lie in plain memory, and time is the capture's.

mod addresses;
pub mod capture;
mod conversion;
mod output;
mod report;

pub use report::Summary;

use crate::config::TranslatorConfig;
use anyhow::{Context, Error, anyhow};
use capture::{Reader, Writer};
use conversion::Conversion;
use output::Output;
use report::Report;
use std::fs::{File, Metadata};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Reads and writes this much at a time.
const BUFFER: usize = 256 << 10;

/// The files of a translation.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Files {
    /// The capture to read: classic pcap, of Ethernet frames or raw IP packets.
    #[arg(long, value_name = "FILE")]
    from_pcap: PathBuf,
    /// The capture to write, with the link type and the times of the other; replaced as a whole, when all went well.
    #[arg(long, value_name = "FILE")]
    to_pcap: PathBuf,
    /// What became of each packet, a line of JSON for each.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Why a command did not do what it was to do.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be: the configuration or the command line is wrong.
    Usage(Error),
    /// It could not be done: of a translation, a file could not be read or written.
    Run(Error),
}

/// What `--help` says beside the options.
pub const HELP: &str = "\
The translator is the worker's own; each packet is judged alone. IPv4 becomes IPv6 and IPv6 becomes IPv4, in one file, by \
EtherType or IP version. What concerns fragments of a datagram together (overlaps, order) is left out, as are path MTUs \
learned on the way. It needs no root, no hugepages and no running engine.

Who is who: [[translate.map]] in the configuration, as in this file, which is all that is needed:

  [translate]
  #node_mtu = 1480           # the IPv4 side's MTU; default: 20 less than [uplink] mtu
  #gateway = \"192.0.2.1\"     # ICMP errors to the IPv4 side come from it
  [[translate.map]]
  ipv4 = \"192.0.2.0/24\"
  ipv6 = \"2001:db8::/120\"
  #[uplink]
  #mtu = 1500                # the IPv6 side's MTU
  #address = \"fd00::a/64\"    # ICMP errors to the IPv6 side come from it

Without own addresses, ICMP errors come from where the packet was going. Without maps, a site file ([provisioning] file) \
says where each address of a network lives; [translate] network picks one, if there are several on this host. \
[translate] and [icmp] mean what they mean to an engine; for [icmp], time is the capture's. The other tables are the \
engine's and are not looked at.

The report is a line of JSON for each packet that was read:
  index    of the packet, from 1, as in Wireshark
  side     ipv4 or ipv6; null if the packet is neither
  verdict  translated: it crossed, whole or in fragments
           answered:   it went no further, and its sender hears why by an ICMP error
           dropped:    it went no further
           truncated:  the capture has only its beginning, so it was not looked at
  reason   why it went no further: the name that overlane_drops_total has
  limited  true if [icmp] kept an ICMP error back
  outputs  what was written of it: index in that file, side, and direction (across or back)

Exit status: 0 done, 1 a file could not be read or written, 2 the configuration or the command line is wrong.";

/// Translates the packets of a capture.
///
/// # Errors
/// [`Failure`]; no file is changed then.
pub fn run(config: &Path, files: &Files) -> Result<Summary, Failure> {
    let config = TranslatorConfig::load(config).map_err(|error| Failure::Usage(error.into()))?;
    let options = addresses::options(&config).map_err(|error| Failure::Usage(error.into()))?;
    files.differ().map_err(Failure::Usage)?;
    files.convert(Conversion::new(options, config.icmp)).map_err(Failure::Run)
}

impl Files {
    fn convert(&self, mut conversion: Conversion) -> anyhow::Result<Summary> {
        let of = |path: &Path| path.display().to_string();
        let input = File::open(&self.from_pcap)
            .with_context(|| format!("{}: cannot be opened", of(&self.from_pcap)))?;
        let mut reader =
            Reader::new(BufReader::with_capacity(BUFFER, input)).with_context(|| of(&self.from_pcap))?;
        let cannot = |path: &Path| format!("{}: cannot be written", of(path));
        let capture = Output::create(&self.to_pcap).with_context(|| cannot(&self.to_pcap))?;
        let mut report = match &self.report {
            Some(path) => {
                let output = Output::create(path).with_context(|| cannot(path))?;
                Report::to(BufWriter::with_capacity(BUFFER, output))
            }
            None => Report::none(),
        };
        let mut writer = Writer::like(reader.header(), BufWriter::with_capacity(BUFFER, capture))
            .with_context(|| cannot(&self.to_pcap))?;
        let link = reader.header().link;
        while let Some(record) = reader.read().with_context(|| of(&self.from_pcap))? {
            let entry =
                conversion.packet(link, &record, &mut writer).with_context(|| cannot(&self.to_pcap))?;
            report.add(&entry).with_context(|| cannot(self.report.as_deref().unwrap_or(&self.to_pcap)))?;
        }
        let (summary, lines) = report.finish();
        let capture = output::complete(writer.into_inner()).with_context(|| cannot(&self.to_pcap))?;
        // None is put in its place before both are complete.
        if let (Some(lines), Some(path)) = (lines, &self.report) {
            output::complete(lines).and_then(Output::put).with_context(|| cannot(path))?;
        }
        capture.put().with_context(|| cannot(&self.to_pcap))?;
        Ok(summary)
    }

    /// Refuses to write to a file that is read, or to one twice.
    fn differ(&self) -> anyhow::Result<()> {
        let input = ("--from-pcap", self.from_pcap.as_path());
        let capture = ("--to-pcap", self.to_pcap.as_path());
        let report = self.report.as_deref().map(|path| ("--report", path));
        let mut pairs = vec![(input, capture)];
        pairs.extend(report.iter().flat_map(|report| [(input, *report), (capture, *report)]));
        for ((one, path), (other, other_path)) in pairs {
            if same(path, other_path) {
                return Err(anyhow!("{other}: must be another file than {one}: {}", other_path.display()));
            }
        }
        Ok(())
    }
}

/// Whether both are one file on disk, or will be.
fn same(one: &Path, other: &Path) -> bool {
    let identity = |of: Metadata| of.is_file().then(|| (of.dev(), of.ino()));
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => identity(one).is_some_and(|one| Some(one) == identity(other)),
        (Err(_), Err(_)) => match (output::place(one), output::place(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_api::config::Source;

    #[test]
    fn example_in_the_help_is_legal_and_shows_what_the_defaults_are() {
        let lines = HELP.lines().filter_map(|line| line.strip_prefix("  "));
        let example =
            lines.skip_while(|line| !line.starts_with('[')).take_while(|line| !line.starts_with("index"));
        let example: Vec<&str> = example.collect();
        let parse = |text: String| TranslatorConfig::parse(&Source::new(Path::new("example"), text)).unwrap();
        let config = parse(example.join("\n"));
        assert_eq!((config.own_ipv4, config.own_ipv6), (None, None));
        // The MTUs are the defaults; the addresses are examples, as there is no default.
        let open =
            parse(example.iter().map(|line| line.trim_start_matches('#')).collect::<Vec<_>>().join("\n"));
        assert_eq!((open.ipv4_mtu, open.ipv6_mtu), (config.ipv4_mtu, config.ipv6_mtu));
        assert_eq!(open.own_ipv4, Some([192, 0, 2, 1].into()));
        assert_eq!(open.own_ipv6, Some("fd00::a".parse().unwrap()));
        assert_eq!(open.addresses, config.addresses);
    }
}
