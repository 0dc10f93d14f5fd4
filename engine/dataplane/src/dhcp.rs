//! What nodes of a virtual network are told by DHCP, besides what provisioning says of each: its address, mask, router, MTU
//! and name.

use crate::illegal::Illegal;
use core::net::Ipv4Addr;
use ipnet::Ipv4Net;

/// The most name servers.
pub const MAX_DNS: usize = 8;
/// The most routes: with the default route they fit into one option (RFC 3442).
pub const MAX_ROUTES: usize = 16;
/// The longest name of a domain, in bytes.
pub const MAX_DOMAIN: usize = 253;
/// The longest name of a file to start from, in bytes.
pub const MAX_BOOT_FILE: usize = 127;
/// The shortest and the longest lease, in seconds: a minute, and some 31 years.
pub const LEASES: core::ops::RangeInclusive<u32> = 60..=1_000_000_000;
/// The lease where none is given, in seconds.
pub const LEASE: u32 = 3_600;

/// What a virtual network's nodes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name servers, the best first; up to [`MAX_DNS`].
    pub dns: Vec<Ipv4Addr>,
    /// The domain of names without one; up to [`MAX_DOMAIN`] bytes, or empty.
    pub domain: String,
    /// For how long a node may keep what it was told, in seconds: one of [`LEASES`].
    pub lease_seconds: u32,
    /// Routes besides those to the subnet and by the gateway, and the router of each; up to [`MAX_ROUTES`].
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Where nodes load what they start from.
    pub boot: Option<Boot>,
}

/// Where nodes load what they start from (PXE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The TFTP server.
    pub server: Ipv4Addr,
    /// The file's name; up to [`MAX_BOOT_FILE`] bytes.
    pub file: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dns: Vec::new(), domain: String::new(), lease_seconds: LEASE, routes: Vec::new(), boot: None }
    }
}

impl Settings {
    /// Whether every setting is legal.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), Illegal> {
        let illegal = |field: String, legal: &str, given: String| Err(Illegal::new(field, legal, given));
        if self.dns.len() > MAX_DNS {
            return illegal("dns".to_owned(), "up to 8 of them", self.dns.len().to_string());
        }
        if let Some(place) = self.dns.iter().position(|server| !is_host(*server)) {
            let given = self.dns.get(place).map(ToString::to_string).unwrap_or_default();
            return illegal(format!("dns[{place}]"), HOST, given);
        }
        if !is_domain(&self.domain) {
            let given = self.domain.chars().take(64).collect();
            return illegal("domain".to_owned(), "a domain's name, like acme.example, or none", given);
        }
        if !LEASES.contains(&self.lease_seconds) {
            let given = self.lease_seconds.to_string();
            return illegal("lease_seconds".to_owned(), "60 to 1000000000 seconds", given);
        }
        if self.routes.len() > MAX_ROUTES {
            return illegal("routes".to_owned(), "up to 16 of them", self.routes.len().to_string());
        }
        for (place, (net, via)) in self.routes.iter().enumerate() {
            if net.trunc() != *net || net.prefix_len() == 0 {
                let legal = "IPv4 in CIDR form, /1 to /32, with zeros behind the prefix length";
                return illegal(format!("routes[{place}].cidr"), legal, net.to_string());
            }
            if !is_host(*via) {
                return illegal(format!("routes[{place}].via"), HOST, via.to_string());
            }
        }
        if let Some(Boot { server, file }) = &self.boot {
            if !is_host(*server) {
                return illegal("boot.server".to_owned(), HOST, server.to_string());
            }
            if !(1..=MAX_BOOT_FILE).contains(&file.len()) || !file.bytes().all(|byte| byte.is_ascii_graphic())
            {
                let given = file.chars().take(64).collect();
                return illegal(
                    "boot.file".to_owned(),
                    "1 to 127 printable ASCII characters, no space",
                    given,
                );
            }
        }
        Ok(())
    }
}

const HOST: &str = "the IPv4 address of a host";

const fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// RFC 1123, 2.1: letters, digits and hyphens between dots; or nothing.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.is_empty() || (name.len() <= MAX_DOMAIN && name.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err().field
    }

    #[test]
    fn what_no_client_could_be_told_is_refused_by_name() {
        let host = Ipv4Addr::new(10, 0, 0, 1);
        let route = |net: &str, via| vec![(net.parse().unwrap(), via)];
        let boot = |server, file: &str| Some(Boot { server, file: file.to_owned() });
        assert_eq!(wrong(|s| s.dns = vec![host; 9]), "dns");
        for address in
            [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, [224, 0, 0, 1].into()]
        {
            assert_eq!(wrong(|s| s.dns = vec![host, address]), "dns[1]");
            assert_eq!(wrong(|s| s.routes = route("10.9.0.0/16", address)), "routes[0].via");
            assert_eq!(wrong(|s| s.boot = boot(address, "x")), "boot.server");
        }
        for domain in ["a..b", "-a", "a-", "a b", ".", "\u{e4}", &"a".repeat(64), &"a.".repeat(127)] {
            assert_eq!(wrong(|s| s.domain = domain.to_owned()), "domain", "{domain}");
        }
        for lease in [0, 59, 1_000_000_001] {
            assert_eq!(wrong(|s| s.lease_seconds = lease), "lease_seconds");
        }
        assert_eq!(wrong(|s| s.routes = route("0.0.0.0/0", host)), "routes[0].cidr");
        assert_eq!(wrong(|s| s.routes = route("10.9.0.1/16", host)), "routes[0].cidr");
        assert_eq!(wrong(|s| s.routes = vec![("10.9.0.0/16".parse().unwrap(), host); 17]), "routes");
        for file in ["", "a b", "\n", &"x".repeat(128)] {
            assert_eq!(wrong(|s| s.boot = boot(host, file)), "boot.file");
        }
        let good = Settings {
            dns: vec![host; 8],
            domain: "acme-1.example".to_owned(),
            lease_seconds: 60,
            routes: vec![("10.9.0.0/16".parse().unwrap(), host); 16],
            boot: boot(host, &"x".repeat(127)),
        };
        assert_eq!((good.check(), Settings::default().check()), (Ok(()), Ok(())));
    }
}
