//! `overlane trace`: what an engine would do with a packet, and by what it is decided.

use crate::output::{Printer, printable};
use crate::telemetry;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use overlane_api::trace::{TraceAnswer, TraceFrame, TracePacket, TraceRequest};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Which packet, and which engine.
#[derive(Debug, Args)]
#[command(after_help = "\
It is asked on the host itself: an engine shows its telemetry on loopback.

Examples:
  overlane trace --interface web/eth0 --to 10.0.0.5 --tcp 443      a SYN that web would send
  overlane trace --interface web/eth0 --to 10.0.0.5 --icmp --df --payload 1472
  overlane trace --from fd00:0:0:a:400:7:a00:1 --to fd00:0:0:b:800:7:a00:5 --udp 53
                                                                   a packet from the substrate
  overlane trace --interface web/eth0 --hex @frame.txt             a frame as it is

The packet goes through the engine's own stages, with the live tables, and changes nothing: nothing is sent, counted or
remembered. What is told of flows is how they are now. Exit status 1 if it would be dropped.")]
pub struct TraceArgs {
    /// The engine's telemetry listener
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9470",
        env = "OVERLANE_ENGINE",
        hide_env_values = true
    )]
    engine: String,
    /// The interface that sends it, like web/eth0 [default: it comes from the substrate]
    #[arg(long, value_name = "NODE/INTERFACE")]
    interface: Option<String>,
    /// Its destination: a virtual address, or from the substrate an IPv6 address
    #[arg(long, value_name = "ADDRESS", required_unless_present = "hex")]
    to: Option<String>,
    /// Its source [default: the interface's own; needed from the substrate]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "hex")]
    from: Option<String>,
    /// A TCP segment, a SYN, to this port
    #[arg(long, value_name = "PORT", group = "transport", conflicts_with = "hex")]
    tcp: Option<u16>,
    /// A UDP datagram to this port
    #[arg(long, value_name = "PORT", group = "transport", conflicts_with = "hex")]
    udp: Option<u16>,
    /// An echo request [default]
    #[arg(long, group = "transport", conflicts_with = "hex")]
    icmp: bool,
    /// The source port [default: 49152]
    #[arg(long, value_name = "PORT", conflicts_with_all = ["hex", "icmp"])]
    source_port: Option<u16>,
    /// TTL or hop limit [default: 64]
    #[arg(long, conflicts_with = "hex")]
    ttl: Option<u8>,
    /// Bytes behind the transport header [default: 0]
    #[arg(long, value_name = "BYTES", conflicts_with = "hex")]
    payload: Option<u16>,
    /// It must not be cut (DF)
    #[arg(long, conflicts_with = "hex")]
    df: bool,
    /// A whole Ethernet frame in hexadecimal digits, or @FILE with them
    #[arg(long, value_name = "DIGITS|@FILE", conflicts_with = "to")]
    hex: Option<String>,
}

impl TraceArgs {
    fn request(&self) -> Result<TraceRequest> {
        let interface = self.interface.clone();
        if let Some(hex) = &self.hex {
            let frame = match hex.strip_prefix('@') {
                Some(file) => std::fs::read_to_string(file).with_context(|| format!("--hex: {file}"))?,
                None => hex.clone(),
            };
            return Ok(TraceRequest { interface, frame: Some(frame), packet: None });
        }
        let (protocol, port) = match (self.tcp, self.udp) {
            (Some(port), _) => ("tcp", Some(port)),
            (_, Some(port)) => ("udp", Some(port)),
            _ => ("icmp", None),
        };
        let packet = TracePacket {
            from: self.from.clone(),
            to: self.to.clone().unwrap_or_default(),
            protocol: protocol.to_owned(),
            port,
            source_port: self.source_port,
            ttl: self.ttl,
            payload: self.payload,
            dont_fragment: self.df,
        };
        Ok(TraceRequest { interface, frame: None, packet: Some(packet) })
    }
}

/// Asks the engine, and tells what it says.
///
/// # Errors
/// If it cannot be asked, or the packet would be dropped.
pub(crate) fn run(args: &TraceArgs, printer: &mut Printer<'_>) -> Result<()> {
    let body = serde_json::to_string(&args.request()?)?;
    let legal = "--engine: must be HOST:PORT of an engine's telemetry listener";
    let mut addresses =
        args.engine.to_socket_addrs().with_context(|| format!("{legal}, not {:?}", args.engine))?;
    let address = addresses.next().context(legal)?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).with_context(|| {
        format!("cannot reach an engine at {}: it is asked on its own host (--engine)", args.engine)
    })?;
    let answer = telemetry::exchange(stream, &args.engine, "POST", "/trace", &body)?;
    if answer.status != 200 {
        bail!("the engine refused ({}): {}", answer.status, printable(answer.body.trim()));
    }
    let told: TraceAnswer =
        serde_json::from_str(&answer.body).context("the engine's answer makes no sense")?;
    if printer.is_json() {
        printer.json(&told)?;
    } else {
        show(&told, printer)?;
    }
    ensure!(told.fate != "dropped", "it would be dropped");
    Ok(())
}

fn show(told: &TraceAnswer, printer: &mut Printer<'_>) -> Result<()> {
    frame(printer, "in by", &told.frame)?;
    let rows = told.steps.iter().map(|step| {
        let revision = step.revision.map_or(String::new(), |revision| revision.to_string());
        vec![step.stage.clone(), step.decision.clone(), step.object.clone().unwrap_or_default(), revision]
    });
    printer.table(&["STAGE", "DECISION", "BY", "REVISION"], rows)?;
    let fate = match (told.fate.as_str(), &told.reason) {
        (_, Some(reason)) => format!("is dropped as {reason}"),
        ("awaits_fragment", _) => "waits for the first fragment of its datagram".to_owned(),
        ("awaits_mapping", _) => "waits while the service is asked where its other end is".to_owned(),
        ("punted", _) => "goes to the engine itself".to_owned(),
        (fate, _) => format!("is {fate}"),
    };
    let by = told.revision.as_ref().map_or(String::new(), |revision| format!(", by revision {revision}"));
    printer.line(&printable(&format!("it {fate}{by}")))?;
    for sent in &told.frames {
        frame(printer, "out by", sent)?;
    }
    printer.flush()?;
    Ok(())
}

fn frame(printer: &mut Printer<'_>, way: &str, frame: &TraceFrame) -> Result<()> {
    printer.line(&format!("{way} {}:", printable(&frame.port)))?;
    for header in &frame.headers {
        printer.line(&format!("  {}", printable(header)))?;
    }
    Ok(())
}
