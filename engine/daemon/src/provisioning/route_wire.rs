//! Between the sync protocol's messages and the checked model: networks behind routers.

use super::wire::{WireError, wrong};
use core::net::Ipv4Addr;
use ipnet::Ipv4Net;
use overlane_api::sync;
use overlane_dataplane::route::{LEGAL, MAX_NEXT_HOPS, MAX_ROUTES, MAX_TRANSITS, Route, Routes, Transit};

/// The routes of a vnet.
pub(super) fn routes(routes: &[sync::Route], transits: &[sync::Transit]) -> Result<Routes, WireError> {
    const ROUTES: &str = "put_vnet.routes";
    const TRANSITS: &str = "put_vnet.transits";
    // Before anything is kept of it.
    for (field, given, most) in [(ROUTES, routes.len(), MAX_ROUTES), (TRANSITS, transits.len(), MAX_TRANSITS)]
    {
        if given > most {
            return Err(wrong(field, format!("at most {most}"), given));
        }
    }
    let net = |field, cidr: &String| cidr.parse::<Ipv4Net>().map_err(|_| wrong(field, LEGAL, cidr));
    let route = |put: &sync::Route| {
        if put.via.len() > MAX_NEXT_HOPS || put.silent.len() > MAX_NEXT_HOPS {
            return Err(wrong("put_vnet.routes.via", format!("1 to {MAX_NEXT_HOPS}"), put.via.len()));
        }
        let addresses = |bits: &[u32]| bits.iter().map(|bits| Ipv4Addr::from_bits(*bits)).collect();
        Ok(Route { net: net(ROUTES, &put.cidr)?, via: addresses(&put.via), silent: addresses(&put.silent) })
    };
    let transit = |put: &sync::Transit| {
        Ok(Transit { net: net(TRANSITS, &put.cidr)?, via: Ipv4Addr::from_bits(put.via) })
    };
    let routes = routes.iter().map(route).collect::<Result<_, _>>()?;
    let transits = transits.iter().map(transit).collect::<Result<_, _>>()?;
    Routes::new(routes, transits).map_err(|illegal| {
        let field = if illegal.field == "transits" { TRANSITS } else { ROUTES };
        wrong(field, illegal.legal, illegal.given)
    })
}

/// Both parts as messages.
pub(super) fn encode(routes: &Routes) -> (Vec<sync::Route>, Vec<sync::Transit>) {
    let bits = |addresses: &[Ipv4Addr]| addresses.iter().map(|address| address.to_bits()).collect();
    let route = |route: &Route| sync::Route {
        cidr: route.net.to_string(),
        via: bits(&route.via),
        silent: bits(&route.silent),
    };
    let transit =
        |transit: &Transit| sync::Transit { cidr: transit.net.to_string(), via: transit.via.to_bits() };
    (routes.routes().iter().map(route).collect(), routes.transits().iter().map(transit).collect())
}
