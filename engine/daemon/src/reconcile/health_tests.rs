use super::super::membership::tests::{interface, open_port};
use super::*;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The router is attached to a port, or to none.
fn attach(health: &mut Health, to: Option<u16>, traffic: &Arc<PerWorker<Traffic>>, now: Instant) {
    let interface = interface();
    let port = to.map(|number| crate::runtime::OpenPort { traffic: traffic.clone(), ..open_port(number) });
    let ready =
        port.iter().map(|port| (Ready { interface: &interface, port, mtu: 1480 }, NODE, Some(GATEWAY)));
    health.attach(ready, now);
}

fn answer(traffic: &PerWorker<Traffic>) {
    traffic.get(0).unwrap().drops.count(DropReason::ArpAbsorbed);
}

#[test]
fn a_router_that_leaves_three_questions_unanswered_is_silent_until_it_answers() {
    let (mut health, traffic) = (Health::default(), Arc::new(PerWorker::new(1)));
    let begin = Instant::now();
    attach(&mut health, Some(3), &traffic, begin);
    let mut told = Vec::new();
    for second in 0..8 {
        let now = begin + Duration::from_secs(second);
        assert_eq!(health.deadline(), Some(now));
        let (questions, changed) = health.tick(now);
        assert_eq!(questions.len(), 1);
        told.push((health.is_silent("web/eth0"), changed));
        // Whatever else it sends, it answers the first and then the sixth.
        traffic.get(0).unwrap().rx_packets.add(1);
        if second == 0 || second == 5 {
            answer(&traffic);
        }
    }
    let (well, silent) = ((false, false), (true, false));
    assert_eq!(told, [well, well, well, well, (true, true), silent, (false, true), well]);
    // One that comes to another port begins anew, and one that is gone is not asked.
    for second in 8..12 {
        health.tick(begin + Duration::from_secs(second));
    }
    assert!(health.is_silent("web/eth0"));
    attach(&mut health, Some(4), &traffic, begin);
    assert!(!health.is_silent("web/eth0"));
    attach(&mut health, None, &traffic, begin);
    assert_eq!((health.deadline(), health.is_silent("web/eth0")), (None, false));
}

#[test]
fn it_is_asked_for_its_own_address_in_the_name_of_its_gateway() {
    let (mut health, traffic) = (Health::default(), Arc::new(PerWorker::new(1)));
    let now = Instant::now();
    attach(&mut health, Some(3), &traffic, now);
    let (questions, _) = health.tick(now);
    let [(to, frame)] = &questions[..] else { panic!("{questions:?}") };
    let interface = interface();
    let gateway = MacAddr::dummy(interface.vnet, GATEWAY);
    assert_eq!((to.index(), &frame[..12]), (3, &[interface.mac.0, gateway.0].concat()[..]));
    let asked = arp::Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!((asked.operation, asked.target), (arp::Operation::Request, NODE));
    assert_eq!((asked.sender_mac, asked.sender), (gateway, GATEWAY));
}
