//! Who is who: a table of the configuration, or what the substrate's address layout makes of a site.

use crate::config::{Addresses, TranslatorConfig};
use crate::provisioning::model::Vnet;
use crate::run::load_site;
use core::net::Ipv4Addr;
use ipnet::{Ipv4Net, Ipv6Net};
use overlane_api::config::FileError;
use overlane_dataplane::address::Layout;
use overlane_dataplane::translate::{AddressMap, Options};
use std::path::Path;

/// What a translator has to know.
///
/// # Errors
/// What is wrong with a site file, or with the choice of a network in it.
pub(super) fn options(config: &TranslatorConfig) -> Result<Options, FileError> {
    let (map, gateway) = match &config.addresses {
        Addresses::Map(map) => (map.clone(), None),
        Addresses::Site { file, host, layout, network } => site(file, host, *layout, network.as_deref())?,
    };
    Ok(Options {
        map,
        settings: config.settings,
        ipv4_mtu: config.ipv4_mtu,
        ipv6_mtu: config.ipv6_mtu,
        own_ipv4: config.own_ipv4.or(gateway),
        own_ipv6: config.own_ipv6,
    })
}

/// Every address of a network with its substrate address, and the gateway if there is just one.
fn site(
    file: &Path,
    host: &str,
    layout: Option<Layout>,
    network: Option<&str>,
) -> Result<(AddressMap, Option<Ipv4Addr>), FileError> {
    let site = load_site(file, host, layout)?;
    let wrong = |message: String| FileError {
        file: file.to_owned(),
        line: None,
        field: "[[network]]".to_owned(),
        message,
    };
    let mut vnets: Vec<&Vnet> = site.vnets.values().map(|vnet| &*vnet.value).collect();
    vnets.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let named = |vnet: &&&Vnet| network.is_none_or(|name| vnet.name == name);
    let names = || vnets.iter().map(|vnet| vnet.name.as_str()).collect::<Vec<_>>().join(", ");
    let vnet = match vnets.iter().filter(named).collect::<Vec<_>>().as_slice() {
        [vnet] => **vnet,
        [] if vnets.is_empty() => return Err(wrong(format!("none has an interface on host {host}"))),
        _ => {
            let message = format!(
                "which one is to be translated must be said by [translate] network, as one of {}",
                names()
            );
            return Err(wrong(message));
        }
    };
    let mut map = AddressMap::default();
    for (target, mapping) in site.mappings.iter().filter(|(target, _)| target.vnet == vnet.id) {
        let address = mapping.value.locator.address(target.ipv4);
        map.insert(Ipv4Net::from(target.ipv4), Ipv6Net::from(address)).map_err(|e| wrong(e.to_string()))?;
    }
    let mut gateways = vnet.subnets.iter().filter_map(|subnet| subnet.gateway);
    let gateway = gateways.next().filter(|_| gateways.next().is_none());
    Ok((map, gateway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    fn sample(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf").join(name)
    }

    fn load(
        host: &str,
        layout: Option<Layout>,
        network: Option<&str>,
    ) -> Result<(AddressMap, Option<Ipv4Addr>), String> {
        site(&sample("static.toml"), host, layout, network).map_err(|error| error.message)
    }

    #[test]
    fn addresses_of_a_site_are_those_of_its_layout() {
        let (map, gateway) = load("host-a", None, Some("red")).unwrap();
        assert_eq!(gateway, Some(Ipv4Addr::new(10, 0, 0, 1)));
        let (web, db) = (Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 0, 0, 6));
        // fd00:0:0:a, slot 0, vnet 7, 10.0.0.5.
        let six: Ipv6Addr = "fd00:0:0:a:0:7:a00:5".parse().unwrap();
        assert_eq!((map.ipv6(web), map.ipv4(six)), (Some(six), Some(web)));
        assert_eq!(map.ipv6(db), Some("fd00:0:0:b:0:7:a00:6".parse().unwrap()));
        assert_eq!(map.ipv6(Ipv4Addr::new(10, 0, 0, 8)), None);
        // The other network has the same addresses elsewhere.
        let (map, _) = load("host-a", None, Some("blue")).unwrap();
        assert_eq!(map.ipv6(web), Some("fd00:0:0:a:400:8:a00:5".parse().unwrap()));
        assert_eq!(map.ipv4(six), None);
    }

    #[test]
    fn network_must_be_said_where_there_are_several() {
        let which = "which one is to be translated must be said by [translate] network, as one of ";
        assert_eq!(load("host-a", None, None), Err(format!("{which}blue, red")));
        assert_eq!(load("host-a", None, Some("green")), Err(format!("{which}blue, red")));
        assert_eq!(load("host-b", None, None).unwrap(), load("host-a", None, Some("red")).unwrap());
        let layout = load("host-a", Some(Layout::Plain72), Some("red")).unwrap_err();
        assert_eq!(layout, "must be plain72, as [substrate] layout says, not slot64");
    }
}
