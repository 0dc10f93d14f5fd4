//! Between the sync protocol's messages and the checked model: systems without an engine.

use super::wire::{WireError, wrong};
use ipnet::Ipv4Net;
use overlane_api::sync;
use overlane_dataplane::external::{External, Externals, LEGAL, MAX_EXTERNALS};

const FIELD: &str = "put_vnet.externals";

/// The externals of a vnet that has, with its peers, these subnets.
pub(super) fn externals(put: &[sync::External], subnets: &[Ipv4Net]) -> Result<Externals, WireError> {
    if put.len() > MAX_EXTERNALS {
        return Err(wrong(FIELD, format!("at most {MAX_EXTERNALS}"), put.len()));
    }
    let external = |put: &sync::External| {
        Ok(External {
            ipv6: put.ipv6.parse().map_err(|_| wrong(FIELD, LEGAL, &put.ipv6))?,
            ipv4: put
                .ipv4
                .parse()
                .map_err(|_| wrong(FIELD, "IPv4 in CIDR form, like 10.255.0.1/32", &put.ipv4))?,
        })
    };
    let all = put.iter().map(external).collect::<Result<_, _>>()?;
    let externals = Externals::new(all).map_err(|illegal| wrong(FIELD, illegal.legal, illegal.given))?;
    match externals.among(subnets) {
        Some((external, subnet)) => Err(wrong(FIELD, format!("apart from the subnet {subnet}"), external)),
        None => Ok(externals),
    }
}

/// As messages.
pub(super) fn encode(externals: &Externals) -> Vec<sync::External> {
    let external = |external: &External| sync::External {
        ipv6: external.ipv6.to_string(),
        ipv4: external.ipv4.to_string(),
    };
    externals.all().iter().map(external).collect()
}
