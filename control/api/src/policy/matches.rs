//! What a rule says of packets, checked: the one way in which the service and site files read it.

use super::weekly::Weekly;
use super::{IcmpMatch, RuleSpec, SizeMatch};
use std::ops::RangeInclusive;

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Which one, like `window.from`.
    pub field: &'static str,
    /// What was given and why it is refused; for people.
    pub message: String,
    /// The legal values.
    pub legal: &'static str,
}

impl FieldError {
    /// A value that is not legal.
    #[must_use]
    pub fn new(field: &'static str, given: impl std::fmt::Display, legal: &'static str) -> Self {
        let given: String = given.to_string().chars().take(64).collect();
        Self { field, message: format!("{:?} is not legal", given), legal }
    }

    fn because(field: &'static str, message: &str, legal: &'static str) -> Self {
        Self { field, message: message.to_owned(), legal }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (legal: {})", self.field, self.message, self.legal)
    }
}

impl std::error::Error for FieldError {}

/// What a packet must be like, besides where it comes from and goes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matches {
    /// 0 to 65535, the lowest decides.
    pub priority: u16,
    /// IPv4 protocol number; `None`: any.
    pub protocol: Option<u8>,
    /// Ports of the source; `None`: any.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Ports of the destination; `None`: any.
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// Type and code of ICMP; `None`: any.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Bytes of the whole IPv4 packet; `None`: any.
    pub size: Option<RangeInclusive<u16>>,
    /// When the rule is in force; `None`: always.
    pub window: Option<Weekly>,
}

/// Names of protocols, and whether they have ports.
const PROTOCOLS: [(&str, u8, bool); 8] = [
    ("icmp", 1, false),
    ("tcp", 6, true),
    ("udp", 17, true),
    ("dccp", 33, true),
    ("gre", 47, false),
    ("esp", 50, false),
    ("sctp", 132, true),
    ("udplite", 136, true),
];
const PROTOCOL_LEGAL: &str = "tcp, udp, icmp, udplite, dccp, sctp, gre, esp or a number from 0 to 255";
const PORTS_LEGAL: &str = "a port or a range from 0 to 65535, like 443 or 8000-8099";
const ICMP: u8 = 1;

/// The name of a protocol, or its number.
#[must_use]
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, ..)| (*name).to_owned())
}

/// The number of a protocol, given by name or number.
///
/// # Errors
/// [`FieldError`] of the field `protocol`.
pub fn parse_protocol(text: &str) -> Result<u8, FieldError> {
    let known = PROTOCOLS.iter().find(|(name, ..)| *name == text).map(|(_, number, _)| *number);
    let number = known.or_else(|| digits(text)?.parse().ok());
    number.ok_or_else(|| FieldError::new("protocol", text, PROTOCOL_LEGAL))
}

/// Whether a protocol has ports that rules can be about.
#[must_use]
pub fn has_ports(protocol: u8) -> bool {
    PROTOCOLS.iter().any(|(_, number, ports)| *ports && *number == protocol)
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn ports(field: &'static str, text: &str) -> Result<RangeInclusive<u16>, FieldError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| digits(text)?.parse::<u16>().ok();
    let range = port(first).zip(port(last)).filter(|(first, last)| first <= last);
    let (first, last) = range.ok_or_else(|| FieldError::new(field, text, PORTS_LEGAL))?;
    Ok(first..=last)
}

fn octet(field: &'static str, value: u32) -> Result<u8, FieldError> {
    u8::try_from(value).map_err(|_| FieldError::new(field, value, "0 to 255"))
}

fn size(SizeMatch { min, max }: SizeMatch) -> Result<RangeInclusive<u16>, FieldError> {
    const LEGAL: &str = "0 to 65535, min not above max";
    let bytes = |field, value: u32| u16::try_from(value).map_err(|_| FieldError::new(field, value, LEGAL));
    let (min, max) =
        (bytes("size.min", min.unwrap_or(0))?, bytes("size.max", max.unwrap_or(u16::MAX.into()))?);
    if min > max {
        return Err(FieldError::because("size", &format!("min {min} is above max {max}"), LEGAL));
    }
    Ok(min..=max)
}

impl Matches {
    /// Checks what a rule says of packets.
    ///
    /// # Errors
    /// [`FieldError`] of the first field that is wrong.
    pub fn of(spec: &RuleSpec) -> Result<Self, FieldError> {
        let priority = u16::try_from(spec.priority)
            .map_err(|_| FieldError::new("priority", spec.priority, "0 to 65535; the lowest decides"))?;
        let protocol = spec.protocol.as_deref().map(parse_protocol).transpose()?;
        let with_ports = protocol.is_some_and(has_ports);
        let ports_of = |field, text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            if !with_ports {
                let problem = "the protocol has no ports";
                return Err(FieldError::because(
                    field,
                    problem,
                    "with protocol tcp, udp, udplite, dccp or sctp only",
                ));
            }
            ports(field, text).map(Some)
        };
        let icmp = |IcmpMatch { kind, code }: IcmpMatch| {
            if protocol != Some(ICMP) {
                let problem = "the protocol is not icmp";
                return Err(FieldError::because("icmp", problem, "with protocol icmp only"));
            }
            Ok((octet("icmp.type", kind)?, code.map(|code| octet("icmp.code", code)).transpose()?))
        };
        Ok(Self {
            priority,
            protocol,
            source_ports: ports_of("source_ports", &spec.source_ports)?,
            destination_ports: ports_of("ports", &spec.ports)?,
            icmp: spec.icmp.map(icmp).transpose()?,
            size: spec.size.map(size).transpose()?,
            window: spec.window.as_ref().map(Weekly::try_from).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, Direction, Selector};

    fn spec(change: impl FnOnce(&mut RuleSpec)) -> RuleSpec {
        let mut spec = RuleSpec {
            entity: "acme".to_owned(),
            description: String::new(),
            priority: 10,
            direction: Direction::Ingress,
            on: Selector { tag: Some("web".to_owned()), ..Selector::default() },
            peer: Selector::default(),
            protocol: None,
            ports: None,
            source_ports: None,
            icmp: None,
            size: None,
            window: None,
            action: Action::Allow,
            stateless: false,
        };
        change(&mut spec);
        spec
    }

    fn field(change: impl FnOnce(&mut RuleSpec)) -> &'static str {
        Matches::of(&spec(change)).unwrap_err().field
    }

    #[test]
    fn what_is_written_is_read() {
        let matches = Matches::of(&spec(|spec| {
            spec.protocol = Some("tcp".to_owned());
            spec.ports = Some("443".to_owned());
            spec.source_ports = Some("1024-65535".to_owned());
            spec.size = Some(SizeMatch { min: None, max: Some(1500) });
        }))
        .unwrap();
        assert_eq!((matches.protocol, matches.destination_ports), (Some(6), Some(443..=443)));
        assert_eq!((matches.source_ports, matches.size), (Some(1024..=65535), Some(0..=1500)));
        let number = Matches::of(&spec(|spec| spec.protocol = Some("89".to_owned()))).unwrap();
        assert_eq!(
            (number.protocol, protocol_name(89), protocol_name(6)),
            (Some(89), "89".into(), "tcp".into())
        );
    }

    #[test]
    fn each_wrong_field_is_named() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(field(|spec| spec.priority = 65_536), "priority");
        for bad in ["TCP", "256", "-1", "", "+6"] {
            assert_eq!(field(|spec| spec.protocol = text(bad)), "protocol");
        }
        for bad in ["80-79", "65536", "-", "80-", "a", "80,443", "+80"] {
            let change = |spec: &mut RuleSpec| (spec.protocol, spec.ports) = (text("tcp"), text(bad));
            assert_eq!(field(change), "ports", "{bad}");
        }
        assert_eq!(field(|spec| spec.ports = text("80")), "ports");
        assert_eq!(
            field(|spec| (spec.protocol, spec.source_ports) = (text("gre"), text("80"))),
            "source_ports"
        );
        assert_eq!(field(|spec| spec.icmp = Some(IcmpMatch { kind: 8, code: None })), "icmp");
        let icmp = |kind, code| {
            move |spec: &mut RuleSpec| {
                spec.protocol = Some("icmp".to_owned());
                spec.icmp = Some(IcmpMatch { kind, code });
            }
        };
        assert_eq!(field(icmp(256, None)), "icmp.type");
        assert_eq!(field(icmp(8, Some(256))), "icmp.code");
        assert_eq!(field(|spec| spec.size = Some(SizeMatch { min: Some(9), max: Some(8) })), "size");
        assert_eq!(field(|spec| spec.size = Some(SizeMatch { min: None, max: Some(65_536) })), "size.max");
    }
}
