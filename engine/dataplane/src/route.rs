//! Networks behind nodes of a vnet, its routers: which of them are the next hops for an address, and which may send from it.

use crate::illegal::Illegal;
use core::net::Ipv4Addr;
use core::ops::Range;
use ipnet::Ipv4Net;

/// Most networks behind the routers of a vnet.
pub const MAX_ROUTES: usize = 1024;
/// Most routers of one network.
pub const MAX_NEXT_HOPS: usize = 8;
/// Most grants of [`Transit`] in a vnet.
pub const MAX_TRANSITS: usize = 16;

/// What no router forwards (RFC 6890): this host and network, loopback, link-local; groups and what is reserved.
pub const UNROUTED: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// What a network behind a router looks like, for people.
pub const LEGAL: &str = "a unicast network without bits behind its length, like 10.9.0.0/16";

/// A network and the routers that it is behind: what is for it is sent to one of them, and each of them may send from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The network.
    pub net: Ipv4Net,
    /// The routers' addresses in the vnet, 1 to [`MAX_NEXT_HOPS`].
    pub via: Vec<Ipv4Addr>,
    /// Those of them that do not answer: they are sent nothing while there is another.
    pub silent: Vec<Ipv4Addr>,
}

/// A network that a router may send from, though what is for it is not sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transit {
    /// The network.
    pub net: Ipv4Net,
    /// The router's address in the vnet.
    pub via: Ipv4Addr,
}

/// All of a vnet's. Immutable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// The longest first, and those of one length in order.
    routes: Vec<Route>,
    /// The lengths that there are, the longest first, and where their routes lie.
    lengths: Vec<(u8, Range<usize>)>,
    transits: Vec<Transit>,
}

/// Refuses what can be no network behind a router.
///
/// # Errors
/// [`Illegal`] naming the field.
pub fn check(field: &'static str, net: Ipv4Net) -> Result<(), Illegal> {
    if net.trunc() != net || UNROUTED.iter().any(|other| other.contains(&net)) {
        return Err(Illegal::new(field, LEGAL, net.to_string()));
    }
    Ok(())
}

impl Routes {
    /// Checks what provisioning says, and sorts it.
    ///
    /// # Errors
    /// [`Illegal`] naming the field.
    pub fn new(mut routes: Vec<Route>, mut transits: Vec<Transit>) -> Result<Self, Illegal> {
        let illegal = |field, legal: String, given: String| Err(Illegal::new(field, legal, given));
        if routes.len() > MAX_ROUTES {
            return illegal("routes", format!("at most {MAX_ROUTES}"), routes.len().to_string());
        }
        if transits.len() > MAX_TRANSITS {
            return illegal("transits", format!("at most {MAX_TRANSITS}"), transits.len().to_string());
        }
        for Route { net, via, silent } in &mut routes {
            check("routes", *net)?;
            via.sort_unstable();
            via.dedup();
            if !(1..=MAX_NEXT_HOPS).contains(&via.len()) {
                let legal = format!("1 to {MAX_NEXT_HOPS} routers of {net}");
                return illegal("via", legal, via.len().to_string());
            }
            silent.sort_unstable();
            silent.dedup();
            if let Some(other) = silent.iter().find(|silent| !via.contains(silent)) {
                return illegal("silent", format!("some of the routers of {net}"), other.to_string());
            }
        }
        for Transit { net, .. } in &transits {
            check("transits", *net)?;
        }
        routes
            .sort_unstable_by_key(|route| (core::cmp::Reverse(route.net.prefix_len()), route.net.network()));
        if let Some([route, _]) = routes.array_windows().find(|[one, two]| one.net == two.net) {
            return illegal("routes", "each network once".to_owned(), route.net.to_string());
        }
        transits.sort_unstable();
        let mut lengths = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            let length = route.net.prefix_len();
            match lengths.last_mut() {
                Some((last, Range { end, .. })) if *last == length => *end = place + 1,
                _ => lengths.push((length, place..place + 1)),
            }
        }
        Ok(Self { routes, lengths, transits })
    }

    /// Whether there are none, and nothing is granted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.transits.is_empty()
    }

    /// The networks, the longest prefixes first.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// What else routers may send from.
    #[must_use]
    pub fn transits(&self) -> &[Transit] {
        &self.transits
    }

    /// The route for an address that is in no subnet: the one with the longest prefix.
    #[must_use]
    pub fn of(&self, address: Ipv4Addr) -> Option<&Route> {
        if !is_routed(address) {
            return None;
        }
        self.lengths.iter().find_map(|(length, places)| {
            let routes = self.routes.get(places.clone())?;
            let network = Ipv4Net::new(address, *length).ok()?.network();
            let place = routes.binary_search_by_key(&network, |route| route.net.network()).ok()?;
            routes.get(place)
        })
    }

    /// The routers that may send from an address though they are no next hop for it. Of an address in a subnet, whose prefix
    /// has `length` bits, only by grants of no larger networks.
    pub fn transit(&self, address: Ipv4Addr, length: u8) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let grants = move |transit: &&Transit| {
            is_routed(address) && transit.net.prefix_len() >= length && transit.net.contains(&address)
        };
        self.transits.iter().filter(grants).map(|transit| transit.via)
    }

    /// Whether a node with this address is a router.
    #[must_use]
    pub fn has_router(&self, address: Ipv4Addr) -> bool {
        self.routes.iter().any(|route| route.via.contains(&address))
            || self.transits.iter().any(|transit| transit.via == address)
    }

    /// The first route that lies in one of these networks, which its addresses would then belong to, and that network.
    #[must_use]
    pub fn inside(&self, nets: &[Ipv4Net]) -> Option<(Ipv4Net, Ipv4Net)> {
        let of = |route: &Route| Some((route.net, *nets.iter().find(|net| net.contains(&route.net))?));
        self.routes.iter().find_map(of)
    }
}

fn is_routed(address: Ipv4Addr) -> bool {
    !UNROUTED.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn router(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn routes(of: &[(&str, &[u8])]) -> Result<Routes, Illegal> {
        let one = |(text, via): &(&str, &[u8])| Route {
            net: net(text),
            via: via.iter().map(|last| router(*last)).collect(),
            silent: Vec::new(),
        };
        Routes::new(of.iter().map(one).collect(), Vec::new())
    }

    #[test]
    fn the_longest_prefix_decides_as_a_plain_search_does() {
        let given: &[(&str, &[u8])] = &[
            ("0.0.0.0/0", &[1]),
            ("10.0.0.0/8", &[2]),
            ("10.9.0.0/16", &[3, 4]),
            ("10.9.128.0/17", &[5]),
            ("10.9.128.7/32", &[6]),
            ("192.168.0.0/16", &[7]),
        ];
        let routes = routes(given).unwrap();
        for address in [
            "10.9.128.7",
            "10.9.128.8",
            "10.9.127.255",
            "10.9.0.0",
            "10.9.255.255",
            "10.10.0.1",
            "11.0.0.1",
            "192.168.255.255",
            "192.169.0.0",
            "1.0.0.0",
            "223.255.255.255",
        ] {
            let address: Ipv4Addr = address.parse().unwrap();
            let plain = given.iter().filter(|(text, _)| net(text).contains(&address));
            let plain = plain.max_by_key(|(text, _)| net(text).prefix_len()).unwrap();
            assert_eq!(routes.of(address).unwrap().net, net(plain.0), "{address}");
        }
        for address in ["127.0.0.1", "0.0.0.1", "169.254.1.1", "224.0.0.5", "240.0.0.1", "255.255.255.255"] {
            assert_eq!(routes.of(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_grant_of_transit_counts_within_a_subnet_only_if_it_is_no_larger() {
        let transits = [("0.0.0.0/0", 1), ("10.0.0.0/24", 2), ("10.0.0.128/25", 3)]
            .map(|(text, via)| Transit { net: net(text), via: router(via) });
        let routes = Routes::new(Vec::new(), transits.to_vec()).unwrap();
        let of = |address: [u8; 4], length| routes.transit(address.into(), length).collect::<Vec<_>>();
        assert_eq!(of([10, 0, 0, 200], 24), [router(2), router(3)]);
        assert_eq!(of([10, 0, 0, 20], 24), [router(2)]);
        assert_eq!(of([10, 0, 0, 200], 25), [router(3)]);
        // In no subnet.
        assert_eq!(of([8, 8, 8, 8], 0), [router(1)]);
        assert!(of([127, 0, 0, 1], 0).is_empty());
    }

    #[test]
    fn what_can_be_no_route_is_refused_by_field() {
        let field = |of: &[(&str, &[u8])]| routes(of).unwrap_err().field;
        for illegal in
            ["10.9.0.1/16", "127.0.0.0/8", "127.1.0.0/16", "224.0.0.0/4", "0.0.0.0/8", "240.0.0.0/4"]
        {
            assert_eq!(field(&[(illegal, &[1])]), "routes", "{illegal}");
        }
        assert_eq!(field(&[("10.9.0.0/16", &[1]), ("10.9.0.0/16", &[2])]), "routes");
        assert_eq!(field(&[("10.9.0.0/16", &[])]), "via");
        assert_eq!(field(&[("10.9.0.0/16", &[1, 2, 3, 4, 5, 6, 7, 8, 9])]), "via");
        let many: Vec<_> = (0..=MAX_ROUTES as u32)
            .map(|number| Route {
                net: Ipv4Net::new(Ipv4Addr::from_bits(10 << 24 | number), 32).unwrap(),
                via: vec![router(1)],
                silent: Vec::new(),
            })
            .collect();
        assert_eq!(Routes::new(many, Vec::new()).unwrap_err().field, "routes");
        let route = Route { net: net("10.9.0.0/16"), via: vec![router(1)], silent: vec![router(2)] };
        assert_eq!(Routes::new(vec![route], Vec::new()).unwrap_err().field, "silent");
        let grant = Transit { net: net("10.9.0.0/16"), via: router(1) };
        assert_eq!(Routes::new(Vec::new(), vec![grant; MAX_TRANSITS + 1]).unwrap_err().field, "transits");
        let grant = Transit { net: net("224.0.0.0/8"), via: router(1) };
        assert_eq!(Routes::new(Vec::new(), vec![grant]).unwrap_err().field, "transits");
    }

    #[test]
    fn a_route_may_contain_subnets_and_lies_in_none() {
        let subnets = [net("10.0.0.0/24")];
        assert_eq!(routes(&[("0.0.0.0/0", &[1]), ("10.0.0.0/23", &[1])]).unwrap().inside(&subnets), None);
        for inside in ["10.0.0.0/24", "10.0.0.128/25"] {
            let found = routes(&[(inside, &[1])]).unwrap().inside(&subnets);
            assert_eq!(found, Some((net(inside), subnets[0])));
        }
    }
}
