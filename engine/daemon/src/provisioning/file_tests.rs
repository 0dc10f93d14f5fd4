use super::*;
use crate::provisioning::rule::Scope;
use overlane_dataplane::policy::Action;

const SAMPLE: &str = include_str!("../../../../conf/static.toml");

fn site(text: &str, own_host: &str) -> Result<DesiredState, FileError> {
    parse(&Source::new(Path::new("static.toml"), text.to_owned()), own_host)
}

/// The message for the sample with a piece replaced.
fn wrong(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from}");
    let error = site(&SAMPLE.replacen(from, to, 1), "host-a").expect_err(to);
    format!("{}: {}", error.field, error.message)
}

#[test]
fn a_host_takes_its_interfaces_and_the_mappings_of_their_networks() {
    let state = site(SAMPLE, "host-a").unwrap();
    assert_eq!(state.host.unwrap().value.prefix.to_string(), "fd00:0:0:a::/64");
    assert_eq!((state.interfaces.len(), state.vnets.len(), state.mappings.len()), (2, 2, 5));
    let target = Target { vnet: VnetId::new(7).unwrap(), ipv4: Ipv4Addr::new(10, 0, 0, 7) };
    let locator = state.mappings[&target].value.locator;
    assert_eq!(locator.address(target.ipv4).to_string(), "fd00::b:0:7:a00:7");

    let stateful = |id| state.vnets[&VnetId::new(id).unwrap()].value.stateful;
    assert_eq!((stateful(7), stateful(8)), (false, true));
    let dhcp = |id| state.vnets[&VnetId::new(id).unwrap()].value.dhcp.clone();
    let settings = dhcp(7).unwrap();
    assert_eq!((settings.lease_seconds, &*settings.domain), (3600, "red.example"));
    assert_eq!((&settings.dns[..], dhcp(8)), (&[Ipv4Addr::new(10, 0, 0, 53)][..], None));

    // host-b has no interface in blue, so blue's mappings are not its business.
    let state = site(SAMPLE, "host-b").unwrap();
    assert_eq!((state.interfaces.len(), state.vnets.len(), state.mappings.len()), (1, 1, 3));
}

#[test]
fn everything_wrong_in_a_site_is_refused_with_field_and_legal_values() {
    let golden = [
        (
            "layout = \"slot64\"",
            "layout = \"slot65\"",
            "layout: must be slot64, plain72 or plain64, not \"slot65\"",
        ),
        (
            "prefix = \"fd00:0:0:b::/64\"",
            "prefix = \"fd00:0:0:a::/64\"",
            "[[host]] prefix: fd00:0:0:a::/64 is host host-a's already",
        ),
        (
            "prefix = \"fd00:0:0:b::/64\"",
            "prefix = \"fd00:0:0:b::/60\"",
            "[[host]] prefix: must be an IPv6 prefix of length 64, like fd00:0:0:a::/64, not \"fd00:0:0:b::/60\"",
        ),
        ("id = \"host-b\"", "id = \"host-a\"", "[[host]] id: host host-a is there already"),
        ("id = \"host-a\"", "id = \"host-c\"", "[[host]]: must describe this engine's host, \"host-a\""),
        ("vnet = 8", "vnet = 7", "[[network]] vnet: 7 is network red's already"),
        ("vnet = 8", "vnet = 0", "[[network]] vnet: must be 1 to 16777215, not 0"),
        (
            "domain = \"red.example\"",
            "domain = \"red..example\"",
            "[[network]] dhcp: dhcp.domain must be a domain's name, like acme.example, or none, not red..example",
        ),
        (
            "domain = \"red.example\"",
            "lease_seconds = 5",
            "[[network]] dhcp: dhcp.lease_seconds must be 60 to 1000000000 seconds, not 5",
        ),
        (
            "vnet = 7\n",
            "vnet = 7\ngroups = { confined = [\"10.0.0.0/8\"] }\n",
            "[[network]] groups: groups.confined must be ranges within 224.0.0.0/4, like 224.0.0.0/24, not 10.0.0.0/8",
        ),
        (
            "slot = 0\n",
            "slot = 0\ngroups = [\"10.0.0.1\"]\n",
            "[[interface]] groups: must be one of up to 64 groups of 224.0.0.0/4, not 10.0.0.1",
        ),
        (
            "slot = 0\n",
            "slot = 0\nrate = { bits_per_second = 1000 }\n",
            "[[interface]] rate: rate.bits_per_second must be 8000 to 400000000000, not 1000",
        ),
        (
            "slot = 0\n",
            "slot = 0\nroutes = [\"10.9.0.1/16\"]\n",
            "[[interface]] routes: routes must be a unicast network without bits behind its length, like 10.9.0.0/16, not 10.9.0.1/16",
        ),
        (
            "slot = 0\n",
            "slot = 0\nroutes = [\"10.9.0.0/16\", \"10.0.0.64/26\"]\n",
            "[[interface]] routes: 10.0.0.64/26 must not lie in 10.0.0.0/24, a subnet of its network or of a peer",
        ),
        (
            "slot = 0\n",
            "slot = 0\ntransit = [\"224.0.0.0/8\"]\n",
            "[[interface]] transit: transits must be a unicast network without bits behind its length, like 10.9.0.0/16, not 224.0.0.0/8",
        ),
        (
            "vnet = 7\n",
            "vnet = 7\nexternals = [{ ipv6 = \"fe80::1/128\", ipv4 = \"10.255.0.1/32\" }]\n",
            "[[network]] externals: address must be a unicast IPv6 address or a prefix of length 112 to 128, like 2001:db8::5 or 2001:db8::/120, not fe80::1/128",
        ),
        (
            "vnet = 7\n",
            "vnet = 7\nexternals = [{ ipv6 = \"2001:db8::5/128\", ipv4 = \"10.0.0.77/32\" }]\n",
            "[[network]] externals: 10.0.0.77/32 must be apart from 10.0.0.0/24, a subnet of its network or of a peer",
        ),
        (
            "vnet = 7\n",
            "vnet = 7\nexternals = [{ ipv6 = \"fd00:0:0:b::5/128\", ipv4 = \"10.255.0.1/32\" }]\n",
            "[[network]] externals: fd00:0:0:b::5/128 must not lie in the prefix of host host-b",
        ),
        ("id = \"blue\"", "id = \"red\"", "[[network]] id: network red is there already"),
        (
            "gateway = \"10.0.0.1\"",
            "gateway = \"10.0.1.1\"",
            "[[network]] subnets: subnets must be with a gateway that is a host address of its subnet, not 10.0.1.1 in 10.0.0.0/24",
        ),
        ("id = \"db/eth0\"", "id = \"web/eth0\"", "[[interface]] id: interface web/eth0 is there already"),
        (
            "id = \"db/eth0\"",
            "id = \"db\"",
            "[[interface]] id: must be <node>/<interface>, each 1 to 63 lower-case letters, digits and '-', not \"db\"",
        ),
        ("slot = 1", "slot = 0", "[[interface]] id: slot 0 of its host is interface web/eth0's already"),
        ("slot = 1", "slot = 64", "[[interface]] slot: must be 0 to 63, not 64"),
        ("slot = 0\n", "", "[[interface]] id: needs slot = 0 to 63, another for each of its host"),
        (
            "mac = \"02:00:5e:10:00:05\"",
            "",
            "[[interface]] id: an interface of this host, host-a, needs mac = its hardware address",
        ),
        (
            "mac = \"02:00:5e:10:00:05\"",
            "mac = \"03:00:5e:10:00:05\"",
            "[[interface]] mac: must be a station's MAC address, like 02:00:5e:10:00:01, not \"03:00:5e:10:00:05\"",
        ),
        (
            "\"10.0.0.6\", \"10.0.0.7\"",
            "\"10.0.0.6\", \"10.0.0.5\"",
            "[[interface]] addresses: 10.0.0.5 is there already in network red",
        ),
        (
            "\"10.0.0.6\", \"10.0.0.7\"",
            "\"10.0.1.6\"",
            "[[interface]] addresses: 10.0.1.6 is no host address of a subnet of network red",
        ),
        (
            "\"10.0.0.6\", \"10.0.0.7\"",
            "\"10.0.0.1\"",
            "[[interface]] addresses: 10.0.0.1 is the gateway of network red",
        ),
        ("\"10.0.0.6\", \"10.0.0.7\"", "", "[[interface]] addresses: must be 1 to 1024 addresses"),
        (
            "device = \"tap-shop\"",
            "device = \"veth-web\"",
            "[[interface]] id: device veth-web is interface web/eth0's already",
        ),
        (
            "device = \"veth-web\"",
            "device = \"veth,web\"",
            "[[interface]] attachment: must be a kernel device name of 1 to 15 letters, digits, '_', '.' and '-', not beginning with '-' (nor ., .., all or default), not \"veth,web\"",
        ),
        (
            "network = \"blue\"\naddress",
            "network = \"green\"\naddress",
            "[[mapping]] network: must be the id of a [[network]] of this file, not \"green\"",
        ),
        (
            "address = \"10.0.0.6\"",
            "address = \"10.0.0.5\"",
            "[[mapping]] address: 10.0.0.5 is there already in network blue",
        ),
    ];
    for (from, to, message) in golden {
        assert_eq!(wrong(from, to), message, "{from} -> {to}");
    }
}

#[test]
fn layouts_without_slots_take_none() {
    let text = SAMPLE.replace("slot64", "plain64").replace("slot = 0\n", "").replace("slot = 1\n", "");
    let state = site(&text, "host-a").unwrap();
    assert_eq!(state.mappings.len(), 5);
    let error = site(&SAMPLE.replace("slot64", "plain64"), "host-a");
    assert_eq!(error.unwrap_err().message, "must be left out in layout plain64");
}

#[test]
fn rules_of_a_site_are_the_same_for_every_host() {
    let state = site(SAMPLE, "host-a").unwrap();
    let rule = &state.rules["web-in"].value;
    let target = Target { vnet: VnetId::new(7).unwrap(), ipv4: Ipv4Addr::new(10, 0, 0, 5) };
    let tags = state.mappings[&target].value.tags.clone().unwrap();
    assert_eq!(rule.on, Scope::Tag(tags[0]));
    assert_eq!((rule.protocol, rule.destination_ports.clone()), (Some(6), Some(80..=80)));
    let elsewhere = site(SAMPLE, "host-b").unwrap();
    assert_eq!(elsewhere.rules["web-rest"].value, state.rules["web-rest"].value);
}

/// The sample with more of it.
fn with(more: &str) -> Result<DesiredState, FileError> {
    site(&format!("{SAMPLE}\n{more}"), "host-a")
}

#[test]
fn hosts_with_members_are_those_of_interfaces_and_mappings() {
    let text = SAMPLE.replacen("slot = 0\n", "slot = 0\ngroups = [\"239.1.2.3\"]\n", 1);
    let host = |id: &str| {
        let text = format!("fd00:0:0:{id}::/64");
        HostPrefix::parse(Layout::Slot64, &text).unwrap()
    };
    let hosts = |of: &str, group: Ipv4Addr| {
        let state = site(&text, of).unwrap();
        let target = Target { vnet: VnetId::new(7).unwrap(), ipv4: group };
        state.groups.get(&target).map(|kept| kept.value.to_vec())
    };
    let video = Ipv4Addr::new(239, 1, 2, 3);
    assert_eq!(hosts("host-a", Ipv4Addr::BROADCAST), Some(vec![host("a"), host("b")]));
    for of in ["host-a", "host-b"] {
        assert_eq!(hosts(of, video), Some(vec![host("a")]), "as seen by {of}");
    }
    let state = site(&text, "host-a").unwrap();
    let own: Vec<_> = state.interfaces.values().filter(|kept| kept.value.groups == [video]).collect();
    assert_eq!(own.len(), 1);
}

#[test]
fn networks_behind_routers_are_known_to_every_host_of_the_vnet() {
    // Behind two interfaces, one here and one there, of which the latter has a first address that is not its lowest.
    let more = "slot = 0\nroutes = [\"10.9.0.0/16\", \"0.0.0.0/0\"]\ntransit = [\"10.0.0.0/24\"]\n";
    let text = SAMPLE
        .replace("slot = 0\n", more)
        .replace("\"10.0.0.6\", \"10.0.0.7\"", "\"10.0.0.7\", \"10.0.0.6\"");
    let routers = [5, 7].map(|last| Ipv4Addr::new(10, 0, 0, last));
    for of in ["host-a", "host-b"] {
        let state = site(&text, of).unwrap();
        let routes = &state.vnets[&VnetId::new(7).unwrap()].value.routes;
        let nets: Vec<_> = routes.routes().iter().map(|route| route.net.to_string()).collect();
        assert_eq!(nets, ["10.9.0.0/16", "0.0.0.0/0"], "as seen by {of}");
        assert!(routes.routes().iter().all(|route| route.via == routers));
        assert!(routes.transits().iter().map(|transit| transit.via).eq(routers));
    }
}

const GREEN: &str = "[[network]]\nid = \"green\"\nvnet = 9\nsubnets = [{ cidr = \"10.5.0.0/24\", gateway = \"10.5.0.1\" }]\n\
     [[mapping]]\nnetwork = \"green\"\naddress = \"10.5.0.7\"\nhost = \"host-b\"\nslot = 9\n";

#[test]
fn a_peer_of_a_network_here_is_told_with_its_mappings() {
    let green = VnetId::new(9).unwrap();
    let target = Target { vnet: green, ipv4: Ipv4Addr::new(10, 5, 0, 7) };
    assert!(!with(GREEN).unwrap().mappings.contains_key(&target));
    let peering = "[[peering]]\nnetworks = [\"red\", \"green\"]\ndefault_action = \"deny\"\n";
    let state = with(&format!("{GREEN}{peering}")).unwrap();
    assert!(state.mappings.contains_key(&target) && !state.vnets.contains_key(&green));
    let red = &state.vnets[&VnetId::new(7).unwrap()].value;
    assert_eq!((red.peerings[0].vnet, red.peerings[0].default_action), (green, Action::Deny));
}

#[test]
fn everything_wrong_in_rules_and_peerings_is_refused_with_field_and_legal_values() {
    let rule = |more: &str| {
        format!("[[rule]]\nid = \"r\"\npriority = 1\ndirection = \"egress\"\naction = \"deny\"\n{more}")
    };
    let golden = [
        (rule("on = { node = \"no\" }"), "rule r: on.node must be the node of an [[interface]], not \"no\""),
        (rule("on = { network = \"no\" }"), "rule r: on.network must be the id of a [[network]], not \"no\""),
        (rule("on = {}"), "rule r: on must be one of node, tag, network, not anybody"),
        (
            rule("on = { cidr = \"10.0.0.0/8\" }"),
            "rule r: on must be one of node, tag, network, not 10.0.0.0/8",
        ),
        (
            rule("on = { node = \"web\" }\npeer = { entity = \"acme\" }"),
            "rule r: peer must be none, or one of node, tag, network, cidr (with a network), not entity acme",
        ),
        (
            rule("on = { node = \"web\" }\npeer = { cidr = \"10.0.0.1/8\" }"),
            "rule r: peer.cidr must be IPv4 in CIDR form with zeros behind the prefix length, like 10.0.0.0/24, not \"10.0.0.1/8\"",
        ),
        (
            rule("on = { node = \"web\" }\nports = \"80\""),
            "rule r: ports: the protocol has no ports (legal: with protocol tcp, udp, udplite, dccp or sctp only)",
        ),
        (rule("on = { node = \"web\" }").replace("\"r\"", "\"web-in\""), "rule web-in is there already"),
        (
            "[[peering]]\nnetworks = [\"red\", \"blue\"]".to_owned(),
            "network red must be with vnets whose subnets overlap with no other's, not 10.0.0.0/24 and 10.0.0.0/24",
        ),
        ("[[peering]]\nnetworks = [\"red\", \"none\"]".to_owned(), "there is no [[network]] none"),
        (
            "[[peering]]\nnetworks = [\"red\", \"red\"]".to_owned(),
            "network red must be with other vnets, each once, not 7",
        ),
    ];
    for (more, message) in golden {
        assert_eq!(with(&more).expect_err(&more).message, message, "{more}");
    }
}
