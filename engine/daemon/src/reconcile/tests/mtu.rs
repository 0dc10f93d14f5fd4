use super::*;

/// Hears what the substrate says of a path, when the uplink is open.
async fn hear(bench: &mut Bench, host: &str, mtu: u16) {
    bench.until("open", |bench| bench.status.borrow().uplink_mtu.is_some()).await;
    let host = HostPrefix::parse(Layout::Slot64, host).unwrap();
    bench.hints.send((host, mtu)).await.unwrap();
}

/// What the last snapshot knows of a path.
fn path_of(bench: &Bench, host: &str) -> Option<u16> {
    let host = HostPrefix::parse(Layout::Slot64, host).unwrap();
    bench.fake.seen.lock().snapshots.last().and_then(|snapshot| snapshot.path_mtus.of(host))
}

#[tokio::test]
async fn a_narrow_path_is_in_the_snapshot_and_in_status() {
    let mut bench = start(settings());
    bench.snapshot(site(1)).await;
    bench.applied(1).await;
    bench.link(3, "up0", true).await;
    let host = "fd00:0:0:b::/64";
    hear(&mut bench, host, 1400).await;
    bench.until("lowered", |bench| path_of(bench, host) == Some(1400)).await;
    hear(&mut bench, host, 1300).await;
    hear(&mut bench, host, 1450).await;
    bench.until("lowered more", |bench| path_of(bench, host) == Some(1300)).await;
    bench
        .until("told", |bench| bench.status.borrow().paths.first().is_some_and(|path| path.mtu == 1300))
        .await;
    let paths = bench.status.borrow().paths.clone();
    assert_eq!((paths.len(), paths[0].host.as_str()), (1, host));
}

#[tokio::test]
async fn a_narrow_path_is_forgotten_when_its_time_is_over() {
    let mut with = settings();
    with.path_mtu_expiry = Duration::from_millis(100);
    let mut bench = start(with);
    bench.snapshot(site(1)).await;
    bench.applied(1).await;
    bench.link(3, "up0", true).await;
    let host = "fd00:0:0:b::/64";
    hear(&mut bench, host, 1300).await;
    let prefix = HostPrefix::parse(Layout::Slot64, host).unwrap();
    let known = |bench: &Bench| {
        let seen = bench.fake.seen.lock();
        let mut values: Vec<_> =
            seen.snapshots.iter().map(|snapshot| snapshot.path_mtus.of(prefix)).collect();
        values.dedup();
        values
    };
    bench.until("forgotten", |bench| known(bench) == [None, Some(1300), None]).await;
    bench.until("told", |bench| bench.status.borrow().paths.is_empty()).await;
}

#[tokio::test]
async fn a_path_to_a_host_that_no_mapping_leads_to_is_not_believed_or_forgotten() {
    let mut bench = start(settings());
    bench.snapshot(site(1)).await;
    bench.applied(1).await;
    bench.link(3, "up0", true).await;
    hear(&mut bench, "fd00:0:0:c::/64", 1300).await;
    hear(&mut bench, "fd00:0:0:b::/64", 1300).await;
    bench.until("lowered", |bench| path_of(bench, "fd00:0:0:b::/64") == Some(1300)).await;
    assert_eq!(path_of(&bench, "fd00:0:0:c::/64"), None);
    // Its only mapping leads elsewhere now.
    bench.delta(2, vec![What::PutMapping(target(6), mapping("fd00:0:0:c::/64", 0))]).await;
    bench.until("forgotten", |bench| path_of(bench, "fd00:0:0:b::/64").is_none()).await;
    hear(&mut bench, "fd00:0:0:c::/64", 1300).await;
    bench.until("believed", |bench| path_of(bench, "fd00:0:0:c::/64") == Some(1300)).await;
    bench.delta(3, vec![What::DeleteMapping(target(6))]).await;
    bench.until("forgotten", |bench| path_of(bench, "fd00:0:0:c::/64").is_none()).await;
}

#[tokio::test]
async fn hosts_are_known_by_the_layout_that_the_service_tells() {
    let mut bench = start(settings());
    let mut state = site(1);
    let prefix = |text: &str| HostPrefix::parse(Layout::Plain72, text).unwrap();
    let locator =
        Locator::new(Layout::Plain72, prefix("fd00:0:0:b:100::/72"), Slot::ZERO, vnet_id()).unwrap();
    for what in [
        What::PutHost(Host { layout: Layout::Plain72, prefix: prefix("fd00:0:0:a::/72"), ..host() }),
        What::PutMapping(target(6), Mapping { locator, also_accept: None, live: true, tags: None }),
    ] {
        state.apply(Change { revision: 1, what }).unwrap();
    }
    bench.snapshot(state).await;
    bench.applied(1).await;
    bench.link(3, "up0", true).await;
    bench.until("open", |bench| bench.status.borrow().uplink_mtu.is_some()).await;
    bench.hints.send((prefix("fd00:0:0:b:100::/72"), 1300)).await.unwrap();
    bench.until("believed", |bench| bench.status.borrow().paths.len() == 1).await;
    assert_eq!(bench.status.borrow().paths[0].host, "fd00:0:0:b:100::/72");
}

#[tokio::test]
async fn status_tells_the_mtu_that_nodes_should_have_and_which_have_another() {
    let mut bench = start(settings());
    bench.snapshot(site(1)).await;
    bench.link(4, "veth-n1", true).await;
    bench
        .until("attached", |bench| bench.status.borrow().interfaces.iter().any(|i| i.mtu == Some(1500)))
        .await;
    assert_eq!(
        (bench.status.borrow().node_mtu, bench.status.borrow().interfaces[0].mtu_note.as_str()),
        (None, "")
    );
    bench.link(3, "up0", true).await;
    bench.until("known", |bench| bench.status.borrow().node_mtu == Some(1480)).await;
    let note = bench.status.borrow().interfaces[0].mtu_note.clone();
    assert!(note.starts_with("its MTU is 1500 and the uplink leaves it 1480"), "{note}");
    let link = Link { ifindex: 4, name: "veth-n1".into(), up: true, mtu: 1480 };
    bench.links.send(LinkEvent::New(link)).await.unwrap();
    bench.until("mended", |bench| bench.status.borrow().interfaces[0].mtu_note.is_empty()).await;
    assert_eq!(bench.status.borrow().interfaces[0].mtu, Some(1480));
    // Another MTU makes another object, whose limit goes on.
    let seen = bench.fake.seen.lock();
    let mut interfaces = seen.snapshots.iter().filter_map(|snapshot| snapshot.interface(Slot::ZERO));
    let (first, last) = (interfaces.next().unwrap(), interfaces.next_back().unwrap());
    assert_eq!((first.mtu, last.mtu), (1500, 1480));
    assert!(Arc::ptr_eq(&first.icmp_limit, &last.icmp_limit));
}

#[tokio::test]
async fn a_tap_is_as_its_port_tells_wherever_its_node_has_it() {
    let mut bench = start(settings());
    let mut state = site(1);
    let device = DeviceName::new("tap-n1").unwrap();
    let attachment = Attachment { kind: AttachmentKind::Tap, device };
    let what = What::PutInterface(Interface { attachment, ..interface("n1/eth0", 0, 5, "tap-n1") });
    state.apply(Change { revision: 1, what }).unwrap();
    bench.snapshot(state).await;
    bench.link(3, "up0", true).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    let port = PortId::new(bench.local_of(5).unwrap() as u16).unwrap();
    bench.ports.send(PortEvent::Link(port, false)).await.unwrap();
    bench.until("down", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Attached)).await;
    bench.ports.send(PortEvent::Link(port, true)).await.unwrap();
    bench.until("up", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.until("known", |bench| bench.status.borrow().node_mtu == Some(1480)).await;
    bench.ports.send(PortEvent::Mtu(port, 1480)).await.unwrap();
    bench.until("told", |bench| bench.status.borrow().interfaces[0].mtu_note.is_empty()).await;
    let seen = bench.fake.seen.lock();
    let interface = seen.snapshots.last().and_then(|snapshot| snapshot.interface(Slot::ZERO)).unwrap();
    assert_eq!(interface.mtu, 1480, "what is sent to it is cut to that");
}
