//! What `overlane-engine translate` takes from a configuration file. What only a running engine needs may be missing, and
//! is not looked at.

use super::ProvisioningConfig;
use super::raw::{Check, Raw};
use super::translate::RawMap;
use core::net::{Ipv4Addr, Ipv6Addr};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use overlane_api::config::{FileError, Source};
use overlane_api::resource::is_id;
use overlane_dataplane::address::Layout;
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::translate::{AddressMap, MapError, Settings};
use std::path::{Path, PathBuf};

/// MTU of the IPv6 side without `[uplink] mtu`: Ethernet's.
const IPV6_MTU: u16 = 1500;
/// What a packet grows by.
const GROWTH: u16 = 20;
/// The smallest MTU that an IPv4 link can have (RFC 791, 3.2).
const LEAST_IPV4_MTU: u32 = 68;

/// A translator without an engine around it.
#[derive(Debug, Clone, PartialEq)]
pub struct TranslatorConfig {
    /// How packets are translated.
    pub settings: Settings,
    /// How many ICMP errors each side is worth.
    pub icmp: IcmpLimit,
    /// Who is who.
    pub addresses: Addresses,
    /// Largest IPv4 packet, in bytes.
    pub ipv4_mtu: u16,
    /// Largest IPv6 packet, in bytes.
    pub ipv6_mtu: u16,
    /// Where ICMP errors to the IPv4 side come from. `None`: in a site, the network's gateway, if it has one only; else
    /// where the packet was going.
    pub own_ipv4: Option<Ipv4Addr>,
    /// Where ICMP errors to the IPv6 side come from. `None`: where the packet was going.
    pub own_ipv6: Option<Ipv6Addr>,
}

/// Where the correspondence of addresses comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Addresses {
    /// A table of prefixes.
    Map(AddressMap),
    /// The substrate addresses of one virtual network's interfaces.
    Site {
        /// The site file.
        file: PathBuf,
        /// This host, which has interfaces in the network.
        host: String,
        /// The layout that the site must have; `None`: as it says.
        layout: Option<Layout>,
        /// The network's id in the site file; `None`: the only one that this host has a part in.
        network: Option<String>,
    },
}

impl TranslatorConfig {
    /// Reads and checks what concerns a translator in a configuration file.
    ///
    /// # Errors
    /// [`FileError`] naming file, line, field and legal values of the first thing that is wrong.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        Self::parse(&Source::read(file)?)
    }

    /// As [`TranslatorConfig::load`], from text.
    ///
    /// # Errors
    /// As [`TranslatorConfig::load`].
    pub fn parse(source: &Source) -> Result<Self, FileError> {
        let raw: Raw = source.parse()?;
        let check = Check { source };
        let settings = raw.translate.check(source)?;
        let icmp = raw.icmp.check(source)?;
        let (mut mtu, mut own_ipv6) = (None, None);
        if let Some(uplink) = &raw.uplink {
            let uplink = uplink.as_ref();
            mtu = check.mtu(&uplink.mtu)?;
            if let Some((_, address, prefix_length)) = check.own_address(&uplink.address)? {
                if let Some(router) = &uplink.gateway {
                    check.router(router, address, prefix_length)?;
                }
                own_ipv6 = Some(address);
            }
        }
        let ipv6_mtu = mtu.unwrap_or(IPV6_MTU);
        let own = &raw.translate;
        let ipv4_mtu = source
            .number(&own.node_mtu, " bytes", &(LEAST_IPV4_MTU..=u16::MAX.into()))?
            .map_or(ipv6_mtu - GROWTH, |mtu| mtu as u16);
        let own_ipv4 = source
            .optional(&own.gateway, "an IPv4 unicast address", |text| text.parse().ok().filter(is_unicast))?;
        let addresses = match own.map.as_slice() {
            [] => site(&check, raw)?,
            maps => {
                source.refuse(&own.network, "has no effect with [[translate.map]]; remove one of them")?;
                Addresses::Map(map(source, maps)?)
            }
        };
        Ok(Self { settings, icmp, addresses, ipv4_mtu, ipv6_mtu, own_ipv4, own_ipv6 })
    }
}

fn map(source: &Source, maps: &[RawMap]) -> Result<AddressMap, FileError> {
    let mut map = AddressMap::default();
    for raw in maps {
        let ipv4: Ipv4Net =
            source.text(&raw.ipv4, "an IPv4 prefix, like 192.0.2.0/24", |text| text.parse().ok())?;
        let ipv6: Ipv6Net =
            source.text(&raw.ipv6, "an IPv6 prefix, like 2001:db8::/120", |text| text.parse().ok())?;
        map.insert(ipv4, ipv6).map_err(|error| {
            let place = match error {
                MapError::NotANetwork { given: IpNet::V4(_), .. } | MapError::Taken(IpNet::V4(_)) => {
                    &raw.ipv4
                }
                _ => &raw.ipv6,
            };
            source.error(&place.span(), error.to_string())
        })?;
    }
    Ok(map)
}

/// Addresses of the substrate's layout. An IPv4 address says neither which vnet it is of nor where it lives there: a site
/// file does.
fn site(check: &Check<'_>, raw: Raw) -> Result<Addresses, FileError> {
    let source = check.source;
    let needed = "must say which IPv6 prefix is which IPv4 prefix, like ipv4 = \"192.0.2.0/24\", ipv6 = \
                  \"2001:db8::/120\"; or a site file must, by [provisioning] file";
    let (Some(engine), Some(provisioning)) = (&raw.engine, raw.provisioning) else {
        return Err(source.missing("[[translate.map]]", needed));
    };
    let host = check.host(engine)?;
    let ProvisioningConfig::File(file) = check.provisioning(provisioning)? else {
        return Err(source.missing("[[translate.map]]", format!("{needed} instead of service")));
    };
    let network =
        source.optional(&raw.translate.network, "the id of a [[network]] of the site file", |text| {
            is_id(text).then(|| text.to_owned())
        })?;
    Ok(Addresses::Site { file, host, layout: check.layout(&raw.substrate)?, network })
}

fn is_unicast(address: &Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    (1..224).contains(&first) && !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TranslatorConfig, String> {
        let source = Source::new(Path::new("conf/translate.toml"), text.to_owned());
        TranslatorConfig::parse(&source).map_err(|error| error.to_string())
    }

    const MAP: &str = "[[translate.map]]\nipv4 = \"192.0.2.0/24\"\nipv6 = \"2001:db8::/120\"\n";
    const SITE: &str = "[engine]\nhost = \"host-a\"\n[provisioning]\nfile = \"static.toml\"\n";

    #[test]
    fn maps_alone_are_enough_and_the_rest_has_the_documented_defaults() {
        let config = parse(MAP).unwrap();
        let mut map = AddressMap::default();
        map.insert("192.0.2.0/24".parse().unwrap(), "2001:db8::/120".parse().unwrap()).unwrap();
        let expected = TranslatorConfig {
            settings: Settings::default(),
            icmp: IcmpLimit::default(),
            addresses: Addresses::Map(map),
            ipv4_mtu: 1480,
            ipv6_mtu: 1500,
            own_ipv4: None,
            own_ipv6: None,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn mtus_and_own_addresses_are_taken_from_uplink_and_translate() {
        let uplink = "[uplink]\nmtu = 1400\naddress = \"fd00::a/64\"\n";
        let config = parse(&format!("{uplink}{MAP}")).unwrap();
        assert_eq!((config.ipv6_mtu, config.ipv4_mtu), (1400, 1380));
        assert_eq!((config.own_ipv6, config.own_ipv4), (Some("fd00::a".parse().unwrap()), None));
        let own = "[translate]\nnode_mtu = 1500\ngateway = \"192.0.2.1\"\n";
        let config = parse(&format!("{uplink}{own}{MAP}")).unwrap();
        assert_eq!((config.ipv6_mtu, config.ipv4_mtu), (1400, 1500));
        assert_eq!(config.own_ipv4, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(parse(&format!("[uplink]\naddress = \"auto\"\n{MAP}")).unwrap().own_ipv6, None);
    }

    #[test]
    fn without_maps_a_site_file_says_who_is_who() {
        let site = |network: Option<&str>, layout| Addresses::Site {
            file: "conf/static.toml".into(),
            host: "host-a".to_owned(),
            layout,
            network: network.map(str::to_owned),
        };
        assert_eq!(parse(SITE).unwrap().addresses, site(None, None));
        let more = "[translate]\nnetwork = \"red\"\n[substrate]\nlayout = \"plain72\"\n";
        let config = parse(&format!("{SITE}{more}")).unwrap();
        assert_eq!(config.addresses, site(Some("red"), Some(Layout::Plain72)));
        assert!(matches!(parse(&format!("{SITE}{MAP}")).unwrap().addresses, Addresses::Map(_)));
    }

    #[test]
    fn errors_name_line_field_and_what_would_be_legal() {
        let needed = "[[translate.map]]: must say which IPv6 prefix is which IPv4 prefix, like ipv4 = \"192.0.2.0/24\", \
                      ipv6 = \"2001:db8::/120\"; or a site file must, by [provisioning] file";
        let service = "[engine]\nhost = \"a\"\n[provisioning]\nservice = \"c:1\"\nca = \"a\"\ncert = \"b\"\nkey = \"c\"";
        let map = |ipv4: &str, ipv6: &str| {
            format!("[[translate.map]]\nipv4 = {ipv4:?}\nipv6 = {ipv6:?}\n{MAP}{MAP}")
        };
        let golden = [
            (String::new(), format!(" {needed}")),
            ("[engine]\nhost = \"a\"".to_owned(), format!(" {needed}")),
            (service.to_owned(), format!(" {needed} instead of service")),
            (
                map("192.0.2.1", "::/96"),
                "2: [[translate.map]] ipv4: must be an IPv4 prefix, like 192.0.2.0/24, not \"192.0.2.1\"".into(),
            ),
            (
                map("10.0.0.0/8", "10.0.0.0/8"),
                "3: [[translate.map]] ipv6: must be an IPv6 prefix, like 2001:db8::/120, not \"10.0.0.0/8\"".into(),
            ),
            (
                map("10.0.0.1/8", "::/96"),
                "2: [[translate.map]] ipv4: 10.0.0.1/8 has bits behind its prefix; it begins at 10.0.0.0/8".into(),
            ),
            (
                map("10.0.0.0/8", "::1/96"),
                "3: [[translate.map]] ipv6: ::1/96 has bits behind its prefix; it begins at ::/96".into(),
            ),
            (
                map("10.0.0.0/8", "::/105"),
                "3: [[translate.map]] ipv6: ::/105 has fewer addresses than 10.0.0.0/8; it must be of length 0 to 104"
                    .into(),
            ),
            (
                map("10.0.0.0/8", "::/96"),
                "8: [[translate.map]] ipv4: 192.0.2.0/24 is mapped already".into(),
            ),
            (
                "[[translate.map]]\nipv4 = \"10.0.0.0/8\"".to_owned(),
                "1: [[translate.map]]: missing field 'ipv6'".into(),
            ),
            (
                format!("[translate]\nnetwork = \"red\"\n{MAP}"),
                "2: [translate] network: has no effect with [[translate.map]]; remove one of them".into(),
            ),
            (
                format!("{SITE}[translate]\nnetwork = \"Red!\""),
                "6: [translate] network: must be the id of a [[network]] of the site file, not \"Red!\"".into(),
            ),
            (
                format!("[translate]\nnode_mtu = 67\n{MAP}"),
                "2: [translate] node_mtu: must be 68 to 65535 bytes, not 67".into(),
            ),
            (
                format!("[translate]\ngateway = \"224.0.0.1\"\n{MAP}"),
                "2: [translate] gateway: must be an IPv4 unicast address, not \"224.0.0.1\"".into(),
            ),
            (
                format!("[translate]\nrouter_source = \"host\"\n{MAP}"),
                "2: [translate] router_source: must be gateway, or an IPv4 prefix of unicast addresses, of length 8 to \
                 32, like 192.0.0.0/24, not \"host\""
                    .into(),
            ),
            (
                format!("[uplink]\nmtu = 1279\n{MAP}"),
                "2: [uplink] mtu: must be 1280 to 65535 bytes, not 1279".into(),
            ),
        ];
        for (text, message) in golden {
            assert_eq!(parse(&text), Err(format!("conf/translate.toml:{message}")), "{text}");
        }
    }
}
