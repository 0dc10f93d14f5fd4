use super::*;
use proptest::prelude::*;

fn good_interface() -> sync::Interface {
    sync::Interface {
        id: "n1/eth0".into(),
        vnet: 7,
        slot: 5,
        mac: vec![2, 0, 0, 0, 0, 1],
        addresses: vec![0x0a00_0005],
        attachment: Some(sync::Attachment {
            kind: sync::AttachmentKind::Veth.into(),
            device: "veth-n1".into(),
        }),
        tags: vec![2, 9],
        groups: vec![0xef01_0203],
        rate: Some(sync::RateLimit { packets_per_second: 1000, bits_per_second: 0 }),
    }
}

fn good_mapping() -> sync::Mapping {
    sync::Mapping {
        key: Some(sync::MappingKey { vnet: 7, ipv4: 0x0a00_0005 }),
        location: Some(sync::Location { prefix: vec![0xfd, 0, 0, 0, 0, 0, 0, 10], slot: 5 }),
        also_accept: Some(sync::Location { prefix: vec![0xfd, 0, 0, 0, 0, 0, 0, 11], slot: 6 }),
        state: sync::MappingState::Live.into(),
        tags: vec![1],
    }
}

fn good_dhcp() -> sync::Dhcp {
    sync::Dhcp {
        dns: vec!["10.0.0.53".into()],
        domain: "acme.example".into(),
        lease_seconds: 600,
        routes: vec![sync::DhcpRoute { cidr: "10.9.0.0/16".into(), via: "10.0.0.7".into() }],
        boot: Some(sync::DhcpBoot { server: "10.0.0.8".into(), file: "pxe".into() }),
    }
}

fn good_groups() -> sync::GroupSettings {
    sync::GroupSettings { no_broadcast: true, confined: vec!["224.0.0.0/16".into()] }
}

fn good_external() -> sync::External {
    sync::External { ipv6: "2001:db8::/120".into(), ipv4: "10.255.0.0/24".into() }
}

fn good_routes() -> Vec<sync::Route> {
    // The longest first, as they are told again.
    vec![
        sync::Route { cidr: "10.9.128.0/17".into(), via: vec![0x0a00_0005], silent: Vec::new() },
        sync::Route {
            cidr: "10.9.0.0/16".into(),
            via: vec![0x0a00_0005, 0x0a00_0006],
            silent: vec![0x0a00_0006],
        },
    ]
}

fn good_group() -> sync::Group {
    let hosts = [10, 11].map(|last| vec![0xfd, 0, 0, 0, 0, 0, 0, last]).into();
    sync::Group { vnet: 7, ipv4: 0xef01_0203, hosts }
}

fn check(what: sync::change::What) -> Result<Change, WireError> {
    change(sync::Change { revision: 3, what: Some(what) }, Layout::Slot64)
}

#[test]
fn what_is_legal_survives_the_wire_both_ways() {
    use sync::change::What as Wire;
    let vnet = sync::Vnet {
        id: 7,
        name: "red".into(),
        subnets: vec![sync::Subnet { cidr: "10.0.0.0/24".into(), gateway: "10.0.0.1".into() }],
        default_action: sync::Action::Deny.into(),
        peerings: vec![sync::Peering {
            vnet: 8,
            cidrs: vec!["10.1.0.0/24".into()],
            default_action: sync::Action::Allow.into(),
            on_demand: true,
        }],
        on_demand: true,
        dhcp: Some(good_dhcp()),
        groups: Some(good_groups()),
        routes: good_routes(),
        transits: vec![sync::Transit { cidr: "0.0.0.0/0".into(), via: 0x0a00_0009 }],
        externals: vec![good_external()],
    };
    let host = sync::Host { id: "host-a".into(), layout: "slot64".into(), prefix: "fd00:0:0:a::/64".into() };
    for what in [
        Wire::PutVnet(vnet),
        Wire::DeleteVnet(7),
        Wire::PutInterface(good_interface()),
        Wire::DeleteInterface("n1/eth0".into()),
        Wire::PutMapping(good_mapping()),
        Wire::DeleteMapping(sync::MappingKey { vnet: 7, ipv4: 0x0a00_0005 }),
        Wire::RefreshMapping(good_mapping()),
        Wire::PutHost(host),
        Wire::DeleteRule("web-in".into()),
        Wire::PutGroup(good_group()),
        Wire::DeleteGroup(sync::MappingKey { vnet: 7, ipv4: u32::MAX }),
    ] {
        let message = sync::Change { revision: 3, what: Some(what) };
        let checked = change(message.clone(), Layout::Slot64).unwrap();
        assert_eq!(encode_change(&checked, Layout::Slot64), message);
    }
}

#[test]
fn what_is_not_legal_is_refused_by_field() {
    use sync::change::What as Wire;
    let interface = |spoil: fn(&mut sync::Interface)| {
        let mut interface = good_interface();
        spoil(&mut interface);
        check(Wire::PutInterface(interface)).unwrap_err().field
    };
    assert_eq!(interface(|i| i.id = String::new()), "put_interface.id");
    assert_eq!(interface(|i| i.id = "a\nb".into()), "put_interface.id");
    assert_eq!(interface(|i| i.id = "x".repeat(300)), "put_interface.id");
    assert_eq!(interface(|i| i.vnet = 1 << 24), "put_interface.vnet");
    assert_eq!(interface(|i| i.slot = 64), "put_interface.slot");
    assert_eq!(interface(|i| i.slot = 256), "put_interface.slot");
    assert_eq!(interface(|i| i.mac = vec![1, 0, 0, 0, 0, 1]), "put_interface.mac");
    assert_eq!(interface(|i| i.mac = vec![2]), "put_interface.mac");
    assert_eq!(interface(|i| i.addresses.clear()), "put_interface.addresses");
    assert_eq!(interface(|i| i.addresses = vec![0xe000_0001]), "put_interface.addresses");
    assert_eq!(interface(|i| i.addresses = vec![0x0a00_0005; 2]), "put_interface.addresses");
    assert_eq!(
        interface(|i| i.addresses = (1..=2000).map(|n| 0x0a00_0000 + n).collect()),
        "put_interface.addresses"
    );
    assert_eq!(interface(|i| i.rate.as_mut().unwrap().bits_per_second = 7_999), "put_interface.rate");
    assert_eq!(interface(|i| i.rate.as_mut().unwrap().packets_per_second = u32::MAX), "put_interface.rate");
    assert_eq!(interface(|i| i.attachment = None), "put_interface.attachment");
    assert_eq!(interface(|i| i.attachment.as_mut().unwrap().kind = 9), "put_interface.attachment.kind");
    assert_eq!(
        interface(|i| i.attachment.as_mut().unwrap().device = "a,b".into()),
        "put_interface.attachment.device"
    );
    let mapping = |spoil: fn(&mut sync::Mapping)| {
        let mut mapping = good_mapping();
        spoil(&mut mapping);
        check(Wire::PutMapping(mapping)).unwrap_err().field
    };
    assert_eq!(mapping(|m| m.key = None), "mapping.key");
    assert_eq!(mapping(|m| m.location = None), "mapping.location");
    assert_eq!(mapping(|m| m.location.as_mut().unwrap().prefix.push(0)), "mapping.location.prefix");
    assert_eq!(mapping(|m| m.location.as_mut().unwrap().prefix[0] = 0xff), "mapping.location.prefix");
    assert_eq!(mapping(|m| m.also_accept.as_mut().unwrap().slot = 64), "mapping.location.slot");
    assert_eq!(mapping(|m| m.state = 0), "mapping.state");
    assert_eq!(mapping(|m| m.key.as_mut().unwrap().ipv4 = 0), "mapping.key.ipv4");
    let vnet = |subnets: &[(&str, &str)]| {
        let subnet = |(cidr, gateway): &(&str, &str)| sync::Subnet {
            cidr: (*cidr).to_owned(),
            gateway: (*gateway).to_owned(),
        };
        let vnet = sync::Vnet {
            id: 7,
            name: "red".into(),
            subnets: subnets.iter().map(subnet).collect(),
            groups: Some(good_groups()),
            ..sync::Vnet::default()
        };
        check(Wire::PutVnet(vnet)).unwrap_err().field
    };
    assert_eq!(vnet(&[("10.0.0.1/24", "")]), "put_vnet.subnets");
    assert_eq!(vnet(&[("10.0.0.0/33", "")]), "subnet.cidr");
    assert_eq!(vnet(&[("10.0.0.0/24", "10.0.1.1")]), "put_vnet.subnets");
    assert_eq!(vnet(&[("10.0.0.0/24", "10.0.0.255")]), "put_vnet.subnets");
    assert_eq!(vnet(&[("10.0.0.0/24", ""), ("10.0.0.128/25", "")]), "put_vnet.subnets");
    assert_eq!(
        change(sync::Change { revision: 1, what: None }, Layout::Slot64).unwrap_err().field,
        "change.what"
    );
    assert_eq!(revision(None).unwrap_err().field, "revision");
    let short = sync::Revision { incarnation: vec![0; 15], number: 1 };
    assert_eq!(revision(Some(&short)).unwrap_err().field, "revision.incarnation");
}

proptest! {
    /// Bytes that happen to parse as a change are checked or refused, in every layout, without a panic, and what is
    /// accepted survives being written down and read again.
    #[test]
    fn any_change_is_checked_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        layout in prop::sample::select(&Layout::ALL),
    ) {
        if let Ok(message) = <sync::Change as prost::Message>::decode(bytes.as_slice())
            && let Ok(checked) = change(message, layout)
        {
            prop_assert_eq!(change(encode_change(&checked, layout), layout).unwrap(), checked);
        }
    }

    #[test]
    fn any_mapping_is_checked_or_refused(
        prefix in prop::collection::vec(any::<u8>(), 7..10), slot in 0u32..70, vnet in 0u32..0x100_0004,
        ipv4: u32, state in 0i32..4, layout in prop::sample::select(&Layout::ALL),
    ) {
        let location = sync::Location { prefix, slot };
        let put = sync::Mapping {
            key: Some(sync::MappingKey { vnet, ipv4 }),
            location: Some(location.clone()),
            also_accept: Some(location),
            state,
            tags: Vec::new(),
        };
        let message = sync::Change { revision: 1, what: Some(sync::change::What::PutMapping(put)) };
        if let Ok(checked) = change(message.clone(), layout) {
            prop_assert_eq!(encode_change(&checked, layout), message);
        }
    }
}

#[test]
fn peerings_that_overlap_are_refused() {
    let peering = |vnet, cidrs: &[&str]| sync::Peering {
        vnet,
        cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
        default_action: sync::Action::Allow.into(),
        on_demand: false,
    };
    let put = |peerings| {
        check(sync::change::What::PutVnet(sync::Vnet {
            id: 7,
            name: "red".into(),
            subnets: vec![sync::Subnet { cidr: "10.0.0.0/24".into(), gateway: String::new() }],
            peerings,
            groups: Some(good_groups()),
            ..sync::Vnet::default()
        }))
    };
    put(vec![peering(8, &["10.1.0.0/24", "10.1.2.0/24"]), peering(9, &["10.2.0.0/16"])]).unwrap();
    for (peerings, field) in [
        (vec![peering(7, &["10.1.0.0/24"])], "put_vnet.peerings"),
        (vec![peering(8, &["10.1.0.0/24"]), peering(8, &["10.2.0.0/24"])], "put_vnet.peerings"),
        (vec![peering(8, &["10.0.0.128/25"])], "put_vnet.peerings"),
        (vec![peering(8, &["0.0.0.0/0"])], "put_vnet.peerings"),
        (vec![peering(8, &["10.1.0.0/16"]), peering(9, &["10.1.9.0/24"])], "put_vnet.peerings"),
        (vec![peering(0, &["10.1.0.0/16"])], "peering.vnet"),
        (vec![peering(8, &["10.1.0.1/16"])], "peering.cidrs"),
        (vec![sync::Peering { default_action: 0, ..peering(8, &["10.1.0.0/16"]) }], "peering.default_action"),
    ] {
        assert_eq!(put(peerings).unwrap_err().field, field);
    }
}

#[test]
fn networks_behind_routers_are_checked() {
    let put = |spoil: fn(&mut sync::Vnet)| {
        let subnets = vec![sync::Subnet { cidr: "10.0.0.0/24".into(), gateway: String::new() }];
        let transits = vec![sync::Transit { cidr: "0.0.0.0/0".into(), via: 0x0a00_0009 }];
        let peerings = vec![sync::Peering {
            vnet: 8,
            cidrs: vec!["10.1.0.0/24".into()],
            default_action: sync::Action::Allow.into(),
            on_demand: false,
        }];
        let mut vnet =
            sync::Vnet { id: 7, subnets, peerings, routes: good_routes(), transits, ..Default::default() };
        spoil(&mut vnet);
        check(sync::change::What::PutVnet(vnet)).map_err(|error| error.field)
    };
    put(|_| {}).unwrap();
    put(|vnet| vnet.routes[0].cidr = "0.0.0.0/0".into()).unwrap();
    let routes = |spoil| put(spoil).unwrap_err();
    assert_eq!(routes(|vnet| vnet.routes[0].cidr = "x".into()), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes[0].cidr = "10.9.0.1/16".into()), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes[0].cidr = "224.0.0.0/4".into()), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes[0].cidr = "10.9.0.0/16".into()), "put_vnet.routes");
    // In a subnet of its own, and of a peer.
    assert_eq!(routes(|vnet| vnet.routes[0].cidr = "10.0.0.128/25".into()), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes[0].cidr = "10.1.0.0/24".into()), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes[0].via.clear()), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes[0].via = (1..10).collect()), "put_vnet.routes.via");
    assert_eq!(routes(|vnet| vnet.routes[0].silent = vec![0x0a00_0006]), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.routes = vec![vnet.routes[0].clone(); 1025]), "put_vnet.routes");
    assert_eq!(routes(|vnet| vnet.transits[0].cidr.clear()), "put_vnet.transits");
    assert_eq!(routes(|vnet| vnet.transits[0].cidr = "127.0.0.0/8".into()), "put_vnet.transits");
    assert_eq!(routes(|vnet| vnet.transits = vec![vnet.transits[0].clone(); 17]), "put_vnet.transits");
}

#[test]
fn externals_are_checked() {
    let put = |spoil: fn(&mut sync::External)| {
        let subnets = vec![sync::Subnet { cidr: "10.0.0.0/24".into(), gateway: String::new() }];
        let mut external = good_external();
        spoil(&mut external);
        let vnet = sync::Vnet { id: 7, subnets, externals: vec![external], ..Default::default() };
        check(sync::change::What::PutVnet(vnet)).map_err(|error| error.field)
    };
    put(|_| {}).unwrap();
    let refused: [fn(&mut sync::External); 7] = [
        |external| external.ipv6 = "x".into(),
        |external| external.ipv6 = "ff02::/120".into(),
        |external| external.ipv6 = "2001:db8::/121".into(),
        |external| external.ipv4 = "10.255.0.1/24".into(),
        |external| external.ipv4 = String::new(),
        // In a subnet.
        |external| external.ipv4 = "10.0.0.0/24".into(),
        |external| *external = sync::External { ipv6: "2001:db8::5/128".into(), ipv4: "10.0.0.7/32".into() },
    ];
    for spoil in refused {
        assert_eq!(put(spoil).unwrap_err(), "put_vnet.externals");
    }
    let many = sync::Vnet { id: 7, externals: vec![good_external(); 257], ..Default::default() };
    assert_eq!(check(sync::change::What::PutVnet(many)).unwrap_err().field, "put_vnet.externals");
}

#[test]
fn what_nodes_are_told_by_dhcp_is_checked() {
    let put = |spoil: fn(&mut sync::Dhcp)| {
        let mut dhcp = good_dhcp();
        spoil(&mut dhcp);
        let vnet = sync::Vnet { id: 7, dhcp: Some(dhcp), ..sync::Vnet::default() };
        check(sync::change::What::PutVnet(vnet)).map_err(|error| error.field)
    };
    put(|_| {}).unwrap();
    put(|dhcp| *dhcp = sync::Dhcp { lease_seconds: 60, ..sync::Dhcp::default() }).unwrap();
    assert_eq!(put(|dhcp| dhcp.dns = vec!["x".into()]).unwrap_err(), "dhcp.dns");
    assert_eq!(put(|dhcp| dhcp.dns = vec!["10.0.0.53".into(); 9]).unwrap_err(), "dhcp.dns");
    assert_eq!(put(|dhcp| dhcp.routes[0].via.clear()).unwrap_err(), "dhcp.routes.via");
    assert_eq!(put(|dhcp| dhcp.routes[0].cidr.clear()).unwrap_err(), "dhcp.routes.cidr");
    assert_eq!(put(|dhcp| dhcp.routes = vec![dhcp.routes[0].clone(); 17]).unwrap_err(), "dhcp.routes");
    assert_eq!(put(|dhcp| dhcp.boot.as_mut().unwrap().server.clear()).unwrap_err(), "dhcp.boot.server");
    assert_eq!(put(|dhcp| dhcp.lease_seconds = 0).unwrap_err(), "put_vnet.dhcp");
    assert_eq!(put(|dhcp| dhcp.domain = "a b".into()).unwrap_err(), "put_vnet.dhcp");
}

#[test]
fn groups_are_checked() {
    use sync::change::What as Wire;
    let group = |spoil: fn(&mut sync::Group)| {
        let mut group = good_group();
        spoil(&mut group);
        check(Wire::PutGroup(group)).unwrap_err().field
    };
    assert_eq!(group(|g| g.ipv4 = 0x0a00_0001), "put_group.ipv4");
    assert_eq!(group(|g| g.vnet = 0), "put_group.ipv4");
    assert_eq!(group(|g| g.hosts[0].push(0)), "put_group.hosts");
    assert_eq!(group(|g| g.hosts[0][0] = 0xff), "put_group.hosts");
    assert_eq!(group(|g| g.hosts[0] = g.hosts[1].clone()), "put_group.hosts");
    assert_eq!(group(|g| g.hosts = vec![Vec::new(); 4097]), "put_group.hosts");
    let key = sync::MappingKey { vnet: 7, ipv4: 1 };
    assert_eq!(check(Wire::DeleteGroup(key)).unwrap_err().field, "delete_group");
    let settings = |confined: &[&str]| {
        let confined = confined.iter().map(|net| (*net).to_owned()).collect();
        let groups = Some(sync::GroupSettings { no_broadcast: false, confined });
        check(Wire::PutVnet(sync::Vnet { id: 7, groups, ..sync::Vnet::default() })).unwrap_err().field
    };
    assert_eq!(settings(&["224"]), "groups.confined");
    assert_eq!(settings(&["10.0.0.0/8"]), "put_vnet.groups");
    assert_eq!(settings(&["224.0.0.0/24"; 17]), "groups.confined");
    let interface = |groups: Vec<u32>| {
        check(Wire::PutInterface(sync::Interface { groups, ..good_interface() })).unwrap_err().field
    };
    assert_eq!(interface(vec![0x0a00_0001]), "put_interface.groups");
    assert_eq!(interface(vec![0xef00_0001; 65]), "put_interface.groups");
}
