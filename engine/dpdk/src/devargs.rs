//! Device arguments: the strings by which DPDK names and configures a device.
//!
//! DPDK splits them at `,` and `=` and has no quoting, so a name or path that holds such a character would turn into
//! arguments of its own. Everything goes through the checks here.

use core::fmt;
use core::str::FromStr;
use std::ffi::{CStr, CString};

/// DPDK's bound on a device's name, without the terminating zero (`RTE_DEV_NAME_MAX_LEN`).
const NAME_MAX: usize = 63;
/// What the whole string may be: far above any legal use.
const LENGTH_MAX: usize = 1024;

/// Why device arguments were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DevargsError {
    /// Not of the form `[domain:]bus:device.function`.
    #[error("{0:?} is not a PCI address: expected dddd:bb:dd.f in hexadecimal, function 0 to 7")]
    PciAddress(String),
    /// The device's name is empty, too long or holds a character that a name may not have.
    #[error("device name {0:?}: expected 1 to {NAME_MAX} of letters, digits, '_', '-', '.' and ':'")]
    Name(String),
    /// A key is empty or holds a character that a key may not have.
    #[error("device argument key {0:?}: expected letters, digits, '_' and '-'")]
    Key(String),
    /// A value holds a character that DPDK would take for syntax.
    #[error(
        "value {value:?} of device argument {key}: ',', '=', brackets, quotes, white space and control characters are not allowed"
    )]
    Value {
        /// The argument.
        key: String,
        /// What was given for it.
        value: String,
    },
    /// The string is too long.
    #[error("device arguments of {0} bytes: at most {LENGTH_MAX}")]
    TooLong(usize),
}

/// The address of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for PciAddress {
    type Err = DevargsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_pci(text).ok_or_else(|| DevargsError::PciAddress(text.to_owned()))
    }
}

fn parse_pci(text: &str) -> Option<PciAddress> {
    let hexadecimal = |part: &str, width: usize| {
        let digits = part.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits && (1..=width).contains(&part.len())).then(|| u16::from_str_radix(part, 16).ok()).flatten()
    };
    let (place, function) = text.rsplit_once('.')?;
    let (place, device) = place.rsplit_once(':')?;
    let (domain, bus) = place.split_once(':').unwrap_or(("0", place));
    let (device, function) = (hexadecimal(device, 2)?, hexadecimal(function, 1)?);
    if device > 31 || function > 7 {
        return None;
    }
    Some(PciAddress {
        domain: hexadecimal(domain, 4)?,
        bus: u8::try_from(hexadecimal(bus, 2)?).ok()?,
        device: u8::try_from(device).ok()?,
        function: u8::try_from(function).ok()?,
    })
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// Which device to attach, and its driver's arguments, in DPDK's syntax and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devargs {
    text: String,
    name_length: usize,
    pci: bool,
}

impl Devargs {
    /// The PCI function at `address`.
    #[must_use]
    pub fn pci(address: PciAddress) -> Self {
        let text = address.to_string();
        Self { name_length: text.len(), text, pci: true }
    }

    /// A virtual device. Its driver is the one whose name begins `name` (`net_null0` is a `net_null`).
    ///
    /// # Errors
    /// [`DevargsError::Name`].
    pub fn vdev(name: &str) -> Result<Self, DevargsError> {
        check_name(name)?;
        Ok(Self { text: name.to_owned(), name_length: name.len(), pci: false })
    }

    /// Adds the argument `key=value`.
    ///
    /// # Errors
    /// [`DevargsError`] if either holds what DPDK would take for syntax.
    pub fn argument(mut self, key: &str, value: impl fmt::Display) -> Result<Self, DevargsError> {
        let value = value.to_string();
        check_argument(key, &value)?;
        self.text.push(',');
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(&value);
        check_length(&self.text)?;
        Ok(self)
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(..self.name_length).unwrap_or_default()
    }

    /// The value of the argument `key`, if it is given.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let arguments = self.text.get(self.name_length..).unwrap_or_default();
        arguments.split(',').find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether it is a virtual device of `driver`, such as `net_af_xdp`.
    #[must_use]
    pub fn is_of(&self, driver: &str) -> bool {
        // DPDK takes the first driver whose name begins the device's.
        !self.pci && self.name().starts_with(driver)
    }

    /// The whole string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the device is a PCI function, not a virtual one.
    pub(crate) fn is_pci(&self) -> bool {
        self.pci
    }

    /// The whole string for C; the checks leave no zero byte in it.
    pub(crate) fn to_c_string(&self) -> CString {
        c_string(&self.text)
    }

    /// The name for C.
    pub(crate) fn name_to_c_string(&self) -> CString {
        c_string(self.name())
    }
}

/// `text` as a C string, up to its first zero byte.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().take_while(|&byte| byte != 0).chain([0]).collect();
    CStr::from_bytes_until_nul(&bytes).map(CStr::to_owned).unwrap_or_default()
}

/// What an operator writes: a PCI address or a vdev name, then `,key=value` each.
impl FromStr for Devargs {
    type Err = DevargsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_length(text)?;
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let mut devargs = match name.parse::<PciAddress>() {
            Ok(address) => Self::pci(address),
            Err(_) => Self::vdev(name)?,
        };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| DevargsError::Key(part.to_owned()))?;
            devargs = devargs.argument(key, value)?;
        }
        Ok(devargs)
    }
}

impl fmt::Display for Devargs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_length(text: &str) -> Result<(), DevargsError> {
    if text.len() > LENGTH_MAX { Err(DevargsError::TooLong(text.len())) } else { Ok(()) }
}

fn check_name(name: &str) -> Result<(), DevargsError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(legal) {
        Ok(())
    } else {
        Err(DevargsError::Name(name.to_owned()))
    }
}

fn check_argument(key: &str, value: &str) -> Result<(), DevargsError> {
    let legal_in_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if key.is_empty() || !key.bytes().all(legal_in_key) {
        return Err(DevargsError::Key(key.to_owned()));
    }
    let syntax = |c: char| c.is_control() || c.is_whitespace() || ",=[](){}\"'\\".contains(c);
    if value.is_empty() || value.contains(syntax) {
        return Err(DevargsError::Value { key: key.to_owned(), value: value.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_read_with_and_without_domain_and_printed_in_full() {
        for (text, printed) in
            [("3:0.1", "0000:03:00.1"), ("0001:af:1f.7", "0001:af:1f.7"), ("00:1f.0", "0000:00:1f.0")]
        {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_not_a_pci_address_is_refused() {
        for text in [
            "",
            "00:00",
            "00:20.0",
            "00:00.8",
            "0:0:0:0.0",
            "+1:00.0",
            "00:00.0,x=y",
            "100:1.0:0",
            "10000:00:00.0",
        ] {
            assert_eq!(text.parse::<PciAddress>(), Err(DevargsError::PciAddress(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_name_with_a_metacharacter_is_refused() {
        for name in ["", "net_null0,copy=1", "net null0", "net_null0=", "net_\n0", "net_null0\0", "nét0"] {
            assert_eq!(Devargs::vdev(name), Err(DevargsError::Name(name.to_owned())));
        }
        assert!(Devargs::vdev(&"a".repeat(64)).is_err());
        assert!(Devargs::vdev(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn a_value_with_a_metacharacter_is_refused() {
        for value in ["", "a,b", "a=b", "a b", "a\tb", "a\nb", "a\0b", "[0]", "'a'", "\"a\"", "a\\b"] {
            let refused = Devargs::vdev("net_pcap0").unwrap().argument("rx_pcap", value);
            assert_eq!(
                refused,
                Err(DevargsError::Value { key: "rx_pcap".to_owned(), value: value.to_owned() })
            );
        }
        assert!(Devargs::vdev("net_pcap0").unwrap().argument("a=b", "c").is_err());
        assert!(Devargs::vdev("net_pcap0").unwrap().argument("k", "x".repeat(LENGTH_MAX)).is_err());
    }

    #[test]
    fn an_operators_string_reads_back_as_written() {
        let text = "net_pcap0,rx_pcap=/tmp/a.pcap,infinite_rx=1";
        let devargs: Devargs = text.parse().unwrap();
        assert_eq!((devargs.name(), devargs.as_str()), ("net_pcap0", text));
        assert!(devargs.is_of("net_pcap") && !devargs.is_of("net_tap"));
        assert_eq!(devargs.value("infinite_rx"), Some("1"));
        assert_eq!((devargs.value("infinite"), devargs.value("tx_pcap")), (None, None));
        assert_eq!("03:00.0".parse::<Devargs>().unwrap().as_str(), "0000:03:00.0");
        for wrong in ["net_pcap0,", "net_pcap0,x", "net_pcap0,a=b=c", ",a=b", "net_pcap0,a=b c=d"] {
            assert!(wrong.parse::<Devargs>().is_err(), "{wrong}");
        }
    }
}
