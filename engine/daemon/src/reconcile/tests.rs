use super::traits::{Link, PortSpec};
use super::*;
use crate::config::{UplinkAddress, UplinkDevice};
use crate::provisioning::InterfaceState;
use crate::provisioning::desired::Kept;
use crate::provisioning::model::{
    Attachment, AttachmentKind, DeviceName, Host, Interface, Mapping, Revision, Vnet,
};
use core::net::{Ipv4Addr, Ipv6Addr};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::cap::RateLimit;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::Action;
use overlane_dataplane::resolve::{Answer, Question};
use overlane_dataplane::snapshot::{HostSnapshot, PortRole, Subnet};
use overlane_dataplane::table::mapping::State;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::Notify;

mod groups;
mod mtu;
mod resolve;
mod rules;

/// What a data plane has been told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Open(PortSpec),
    Close(usize),
    /// The node ports in the snapshot.
    Publish(Vec<usize>),
    Put(Target, Option<usize>),
    Remove(Target),
    /// A node that is gone: for its senders to be told.
    Bury(Target),
    Answer(usize, Answer),
    Inject,
    Grace,
}

#[derive(Debug, Default)]
struct Seen {
    told: Vec<Told>,
    mappings: BTreeMap<Target, (Mapping, Option<PortId>)>,
    states: BTreeMap<Target, State>,
    snapshots: Vec<HostSnapshot>,
    traffic: Vec<Arc<PerWorker<Traffic>>>,
    injected: Vec<(PortId, Vec<u8>)>,
    /// Mappings that the table has room for.
    room: Option<usize>,
    refuse_open: Option<String>,
    refuse_isolation: Option<String>,
    /// Workers have not come past what was published.
    is_held: bool,
    /// How often it was looked whether they have.
    looks: usize,
}

#[derive(Debug, Clone, Default)]
struct Fake {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
}

impl Fake {
    fn tell(&self, told: Told) {
        self.seen.lock().told.push(told);
        self.changed.notify_one();
    }
}

impl Dataplane for Fake {
    fn open_port(&self, spec: PortSpec) -> impl Future<Output = Result<OpenPort, String>> + Send + 'static {
        self.tell(Told::Open(spec));
        let mut seen = self.seen.lock();
        let outcome = match seen.refuse_open.take() {
            Some(error) => Err(error),
            None => {
                let traffic = Arc::new(PerWorker::new(1));
                seen.traffic.push(traffic.clone());
                let id = PortId::new(seen.traffic.len() as u16).unwrap();
                let mac = MacAddr([2, 0, 0, 0, 9, 1]);
                Ok(OpenPort { id, mac, mtu: 1500, mtu_max: 9000, link_up: true, ifindex: None, traffic })
            }
        };
        core::future::ready(outcome)
    }

    fn close_port(&self, port: PortId) -> impl Future<Output = ()> + Send + 'static {
        self.tell(Told::Close(port.index()));
        core::future::ready(())
    }

    fn publish(&self, snapshot: HostSnapshot) -> Result<(), String> {
        let nodes = snapshot.ports.iter().enumerate();
        let nodes = nodes.filter(|(_, role)| matches!(role, PortRole::Node(_))).map(|(index, _)| index);
        self.tell(Told::Publish(nodes.collect()));
        self.seen.lock().snapshots.push(snapshot);
        Ok(())
    }

    fn inject(&self, port: PortId, frame: &[u8]) {
        self.tell(Told::Inject);
        self.seen.lock().injected.push((port, frame.to_vec()));
    }

    fn put_mapping(
        &mut self,
        target: Target,
        mapping: &Mapping,
        local: Option<PortId>,
        state: State,
    ) -> Result<Option<Locator>, String> {
        let mut seen = self.seen.lock();
        if state == State::Gone {
            let old = seen.mappings.remove(&target);
            seen.states.insert(target, state);
            drop(seen);
            self.tell(Told::Bury(target));
            return Ok(old.map(|(old, _)| old.locator));
        }
        if seen.room.is_some_and(|room| seen.mappings.len() >= room) && !seen.mappings.contains_key(&target) {
            return Err("the table is full".into());
        }
        let old = seen.mappings.insert(target, (mapping.clone(), local));
        seen.states.insert(target, state);
        drop(seen);
        self.tell(Told::Put(target, local.map(PortId::index)));
        Ok(old.map(|(old, _)| old.locator))
    }

    fn remove_mapping(&mut self, target: Target) -> Option<Locator> {
        let mut seen = self.seen.lock();
        let old = seen.mappings.remove(&target);
        seen.states.remove(&target);
        drop(seen);
        self.tell(Told::Remove(target));
        old.map(|(old, _)| old.locator)
    }

    fn answer(&self, worker: usize, answer: Answer) {
        self.tell(Told::Answer(worker, answer));
    }

    type Grace = ();

    fn begin_grace(&self) {
        self.tell(Told::Grace);
    }

    fn is_over(&self, (): ()) -> bool {
        let mut seen = self.seen.lock();
        seen.looks += 1;
        let is_held = seen.is_held;
        drop(seen);
        self.changed.notify_one();
        !is_held
    }

    fn maintain(&mut self) -> bool {
        false
    }
}

impl Kernel for Fake {
    fn isolate_prefix(
        &self,
        _ifindex: u32,
        _prefix: Option<HostPrefix>,
        _addresses: Vec<Ipv6Addr>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        core::future::ready(self.seen.lock().refuse_isolation.take().map_or(Ok(()), Err))
    }
}

struct Bench {
    fake: Fake,
    events: mpsc::Sender<Event>,
    links: mpsc::Sender<LinkEvent>,
    ports: mpsc::Sender<PortEvent>,
    punts: mpsc::Sender<(PortId, Vec<u8>)>,
    hints: mpsc::Sender<(HostPrefix, u16)>,
    questions: mpsc::Sender<(usize, Question)>,
    lookups: mpsc::Sender<Lookup>,
    requests: mpsc::Receiver<Request>,
    shutdown: watch::Sender<bool>,
    applied: watch::Receiver<Applied>,
    reports: watch::Receiver<Arc<Reports>>,
    status: watch::Receiver<Arc<Status>>,
    task: tokio::task::JoinHandle<()>,
}

fn settings() -> Settings {
    Settings {
        host: "host-a".into(),
        uplink: UplinkConfig {
            name: "uplink".into(),
            device: UplinkDevice::Packet(DeviceName::new("up0").unwrap()),
            mtu: None,
            address: UplinkAddress::Static {
                address: "fd00:0:0:ff::a".parse().unwrap(),
                gateway: "fd00:0:0:ff::1".parse().unwrap(),
            },
        },
        workers: 1,
        translate: translate::Settings { clamp_tcp_mss: true, ..translate::Settings::default() },
        icmp: IcmpLimit::default(),
        groups: GroupLimit::default(),
        path_mtu_expiry: Duration::from_secs(600),
        mapping_expiry: Duration::from_secs(600),
        stale_max: Some(Duration::from_secs(3600)),
        directory: None,
        stored: None,
    }
}

fn start(settings: Settings) -> Bench {
    let fake = Fake::default();
    let (events, events_in) = mpsc::channel(16);
    let (links, links_in) = mpsc::channel(16);
    let (ports, ports_in) = mpsc::channel(16);
    let (punts, punts_in) = mpsc::channel(16);
    let (hints, hints_in) = mpsc::channel(16);
    let (questions, questions_in) = mpsc::channel(16);
    let (lookups, lookups_in) = mpsc::channel(16);
    let (requests_out, requests) = mpsc::channel(16);
    let (shutdown, shutdown_in) = watch::channel(false);
    let (applied_out, applied) = watch::channel(Applied::default());
    let (reports_out, reports) = watch::channel(Arc::default());
    let (status_out, status) = watch::channel(Arc::default());
    let inputs = Inputs {
        events: events_in,
        links: links_in,
        ports: ports_in,
        punts: punts_in,
        hints: hints_in,
        questions: questions_in,
        lookups: lookups_in,
        shutdown: shutdown_in,
    };
    let outputs = Outputs {
        applied: applied_out,
        reports: reports_out,
        requests: requests_out,
        status: status_out,
        pulse: Arc::default(),
    };
    let reconciler = Reconciler::new(settings, fake.clone(), fake.clone(), inputs, outputs);
    let task = tokio::spawn(reconciler.run());
    Bench {
        fake,
        events,
        links,
        ports,
        punts,
        hints,
        questions,
        lookups,
        requests,
        shutdown,
        applied,
        reports,
        status,
        task,
    }
}

impl Bench {
    /// Waits until something holds; it is looked at again whenever anything happens.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                let (mut applied, mut reports, mut status) =
                    (self.applied.clone(), self.reports.clone(), self.status.clone());
                tokio::select! {
                    () = self.fake.changed.notified() => {}
                    _ = applied.changed() => drop(self.applied.borrow_and_update()),
                    _ = reports.changed() => drop(self.reports.borrow_and_update()),
                    _ = status.changed() => drop(self.status.borrow_and_update()),
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            panic!("never {what}: {:?}, {:?}", self.fake.seen.lock().told, self.status.borrow());
        }
    }

    async fn link(&self, ifindex: u32, name: &str, up: bool) {
        let link = Link { ifindex, name: name.into(), up, mtu: 1500 };
        self.links.send(LinkEvent::New(link)).await.unwrap();
    }

    async fn snapshot(&self, state: DesiredState) {
        self.events.send(Event::Snapshot(Box::new(state))).await.unwrap();
    }

    async fn delta(&self, number: u64, changes: Vec<What>) {
        let changes = changes.into_iter().map(|what| Change { revision: number, what }).collect();
        self.events.send(Event::Delta { revision: revision(number), changes }).await.unwrap();
    }

    async fn applied(&mut self, number: u64) {
        self.until("applied", |bench| bench.applied.borrow().revision == Some(revision(number))).await;
    }

    fn state_of(&self, id: &str) -> Option<InterfaceState> {
        self.reports.borrow().get(id).map(|report| report.state)
    }

    fn local_of(&self, last: u8) -> Option<usize> {
        let seen = self.fake.seen.lock();
        seen.mappings.get(&target(last)).and_then(|(_, local)| local.map(PortId::index))
    }

    /// Where something was told first, counted from the beginning.
    fn place(&self, wanted: impl Fn(&Told) -> bool) -> usize {
        let seen = self.fake.seen.lock();
        seen.told.iter().position(wanted).unwrap_or_else(|| panic!("not told: {:?}", seen.told))
    }
}

fn revision(number: u64) -> Revision {
    Revision { incarnation: [1; 16], number }
}

fn vnet_id() -> VnetId {
    VnetId::new(7).unwrap()
}

fn target(last: u8) -> Target {
    Target { vnet: vnet_id(), ipv4: Ipv4Addr::new(10, 0, 0, last) }
}

fn host() -> Host {
    let prefix = HostPrefix::parse(Layout::Slot64, "fd00:0:0:a::/64").unwrap();
    Host { id: "host-a".into(), layout: Layout::Slot64, prefix }
}

fn mapping(prefix: &str, slot: u8) -> Mapping {
    let prefix = HostPrefix::parse(Layout::Slot64, prefix).unwrap();
    let locator = Locator::new(Layout::Slot64, prefix, Slot::new(slot).unwrap(), vnet_id()).unwrap();
    Mapping { locator, also_accept: None, live: true, tags: None }
}

fn here(slot: u8) -> Mapping {
    mapping("fd00:0:0:a::/64", slot)
}

fn elsewhere(slot: u8) -> Mapping {
    mapping("fd00:0:0:b::/64", slot)
}

fn interface(id: &str, slot: u8, last: u8, device: &str) -> Interface {
    Interface {
        id: id.into(),
        vnet: vnet_id(),
        slot: Slot::new(slot).unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, last]),
        addresses: vec![Ipv4Addr::new(10, 0, 0, last)],
        attachment: Attachment { kind: AttachmentKind::Veth, device: DeviceName::new(device).unwrap() },
        tags: None,
        groups: Vec::new(),
        rate: RateLimit::default(),
    }
}

fn vnet(subnets: Vec<Subnet>, stateful: bool) -> Vnet {
    let (default_action, peerings) = (Action::Allow, Vec::new());
    Vnet {
        id: vnet_id(),
        name: "red".into(),
        subnets,
        stateful,
        default_action,
        peerings,
        on_demand: false,
        dhcp: None,
        groups: overlane_dataplane::group::Settings::default(),
        routes: Arc::default(),
        externals: Arc::default(),
    }
}

/// One interface here, 10.0.0.5 in slot 0 on veth-n1, and one address elsewhere.
fn site(number: u64) -> DesiredState {
    let mut state = DesiredState { revision: Some(revision(number)), ..DesiredState::default() };
    let subnet = Subnet { net: "10.0.0.0/24".parse().unwrap(), gateway: None };
    for what in [
        What::PutHost(host()),
        What::PutVnet(vnet(vec![subnet], false)),
        What::PutInterface(interface("n1/eth0", 0, 5, "veth-n1")),
        What::PutMapping(target(5), here(0)),
        What::PutMapping(target(6), elsewhere(0)),
    ] {
        state.apply(Change { revision: number, what }).unwrap();
    }
    state
}

#[tokio::test]
async fn a_new_port_is_in_a_snapshot_before_mappings_lead_to_it() {
    let mut bench = start(settings());
    bench.snapshot(site(1)).await;
    bench.applied(1).await;
    assert_eq!(bench.state_of("n1/eth0"), Some(InterfaceState::Defined));
    assert_eq!(bench.local_of(5), None);
    bench.link(4, "veth-n1", true).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    let published = bench.place(|told| *told == Told::Publish(vec![1]));
    let mapped = bench.place(|told| *told == Told::Put(target(5), Some(1)));
    assert!(published < mapped);
    assert_eq!(bench.local_of(6), None);
    let seen = bench.fake.seen.lock();
    let snapshot = seen.snapshots.last().unwrap();
    let found = snapshot.interface(Slot::ZERO).unwrap();
    assert_eq!((found.name.as_str(), found.mtu, found.vnet.id), ("n1/eth0", 1500, vnet_id()));
    assert!(snapshot.translate.clamp_tcp_mss, "the snapshot translates as configured");
}

#[tokio::test]
async fn mappings_leave_a_port_before_the_snapshot_and_the_snapshot_before_it_closes() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.fake.seen.lock().told.clear();
    let away = What::PutMapping(target(5), elsewhere(3));
    bench.delta(2, vec![What::DeleteInterface("n1/eth0".into()), away]).await;
    bench.until("closed", |bench| bench.fake.seen.lock().told.contains(&Told::Close(1))).await;
    let unmapped = bench.place(|told| *told == Told::Put(target(5), None));
    let unpublished = bench.place(|told| *told == Told::Publish(vec![]));
    let closed = bench.place(|told| *told == Told::Close(1));
    assert!(unmapped < unpublished && unpublished < closed);
    bench.applied(2).await;
    bench.until("unreported", |bench| bench.reports.borrow().is_empty()).await;
}

#[tokio::test]
async fn an_interface_attached_here_whose_mapping_points_elsewhere_is_not_delivered_to_here() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.delta(2, vec![What::PutMapping(target(5), elsewhere(3))]).await;
    bench.applied(2).await;
    assert_eq!(bench.local_of(5), None);
    bench.delta(3, vec![What::PutMapping(target(5), here(0))]).await;
    bench.applied(3).await;
    assert_eq!(bench.local_of(5), Some(1));
}

#[tokio::test]
async fn a_recreated_device_is_attached_again_and_keeps_its_counters() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.fake.seen.lock().traffic[0].get(0).unwrap().drops.count(DropReason::NoMapping);
    bench.links.send(LinkEvent::Gone(4)).await.unwrap();
    bench.until("gone", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Gone)).await;
    assert_eq!(bench.local_of(5), None);
    bench.link(9, "veth-n1", true).await;
    bench.until("local again", |bench| bench.local_of(5) == Some(2)).await;
    bench.fake.seen.lock().traffic[1].get(0).unwrap().drops.count(DropReason::NoMapping);
    bench
        .until("counted", |bench| {
            let status = bench.status.borrow();
            let counted = status.counted.iter().find(|counted| counted.name == "n1/eth0");
            counted.is_some_and(|counted| counted.totals().drops[DropReason::NoMapping.index()] == 2)
        })
        .await;
}

#[tokio::test]
async fn a_link_that_is_down_is_attached_but_not_live() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.link(4, "veth-n1", false).await;
    bench.until("attached", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Attached)).await;
    assert!(!bench.fake.seen.lock().told.contains(&Told::Close(1)));
}

#[tokio::test]
async fn what_cannot_be_attached_says_why_and_is_tried_again() {
    let mut bench = start(settings());
    bench.fake.seen.lock().refuse_open = Some("no free queue".into());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench
        .until("said", |bench| {
            bench.reports.borrow().get("n1/eth0").is_some_and(|report| report.detail == "no free queue")
        })
        .await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
}

#[tokio::test]
async fn a_slot_that_two_interfaces_claim_is_the_later_ones() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.link(5, "veth-n2", true).await;
    bench.snapshot(site(1)).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.delta(2, vec![What::PutInterface(interface("n2/eth0", 0, 9, "veth-n2"))]).await;
    bench.until("live", |bench| bench.state_of("n2/eth0") == Some(InterfaceState::Live)).await;
    let report = bench.reports.borrow().get("n1/eth0").cloned().unwrap();
    assert_eq!(
        (report.state, report.detail.as_str()),
        (InterfaceState::Defined, "slot 0 is interface n2/eth0's")
    );
}

#[tokio::test]
async fn a_large_snapshot_is_applied_as_a_diff_while_frames_are_answered() {
    let mut bench = start(settings());
    bench.link(3, "up0", true).await;
    let mut state = site(1);
    for index in 0..200_000u32 {
        let target = Target { vnet: vnet_id(), ipv4: Ipv4Addr::from_bits(0x0b00_0000 + index) };
        state.mappings.insert(target, Kept { revision: 1, value: elsewhere(1) });
    }
    bench.snapshot(state).await;
    let uplink = |bench: &Bench| bench.fake.seen.lock().told.contains(&Told::Inject);
    bench.until("uplink", uplink).await;
    bench.applied(1).await;
    assert_eq!(bench.fake.seen.lock().mappings.len(), 200_002);
    // The uplink came to life long before the last mapping was written.
    let injected = bench.place(|told| *told == Told::Inject);
    let puts = bench.fake.seen.lock().told[..injected].iter().filter(|t| matches!(t, Told::Put(..))).count();
    assert!(puts < 100_000, "{puts}");
    bench.fake.seen.lock().told.clear();
    bench.snapshot(site(2)).await;
    bench.applied(2).await;
    let seen = bench.fake.seen.lock();
    assert_eq!(seen.mappings.len(), 2);
    assert_eq!(seen.told.iter().filter(|told| matches!(told, Told::Remove(_))).count(), 200_000);
    let first_remove = seen.told.iter().position(|told| matches!(told, Told::Remove(_))).unwrap();
    let last_put = seen.told.iter().rposition(|told| matches!(told, Told::Put(..))).unwrap();
    assert!(last_put < first_remove, "make before break");
}

#[tokio::test]
async fn a_revision_is_acknowledged_only_when_every_mapping_of_it_is_written() {
    let mut bench = start(settings());
    bench.fake.seen.lock().room = Some(2);
    bench.snapshot(site(1)).await;
    bench.applied(1).await;
    bench.delta(2, vec![What::PutMapping(target(8), elsewhere(2))]).await;
    bench
        .until("refused", |bench| {
            bench.status.borrow().unready.iter().any(|why| why == "mapping table: 1 mappings found no room")
        })
        .await;
    assert_eq!(bench.applied.borrow().revision, Some(revision(1)));
    bench.fake.seen.lock().room = None;
    bench.applied(2).await;
    assert!(bench.fake.seen.lock().mappings.contains_key(&target(8)));
}

#[tokio::test]
async fn objects_that_did_not_change_are_the_same_objects() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.link(5, "veth-n2", true).await;
    bench.snapshot(site(1)).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.delta(2, vec![What::PutInterface(interface("n2/eth0", 1, 9, "veth-n2"))]).await;
    bench.until("live", |bench| bench.state_of("n2/eth0") == Some(InterfaceState::Live)).await;
    let seen = bench.fake.seen.lock();
    let first = seen.snapshots.iter().find_map(|snapshot| snapshot.interface(Slot::ZERO)).unwrap();
    let last = seen.snapshots.last().unwrap();
    assert!(Arc::ptr_eq(first, last.interface(Slot::ZERO).unwrap()));
    assert!(last.interface(Slot::new(1).unwrap()).is_some());
}

#[tokio::test]
async fn flows_are_judged_anew_when_another_vnet_is_stateful() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    let vnet = |subnets: &str, stateful| {
        What::PutVnet(vnet(vec![Subnet { net: subnets.parse().unwrap(), gateway: None }], stateful))
    };
    bench.snapshot(site(1)).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.applied(1).await;
    let first = bench.fake.seen.lock().snapshots.last().unwrap().policy_epoch;
    let mut seen = Vec::new();
    // Another subnet is no other policy.
    let steps = [vnet("10.0.0.0/24", true), vnet("10.0.0.0/23", true), vnet("10.0.0.0/23", false)];
    for (number, step) in (2..).zip(steps) {
        bench.delta(number, vec![step]).await;
        bench.applied(number).await;
        let snapshots = &bench.fake.seen.lock().snapshots;
        let snapshot = snapshots.last().unwrap();
        let vnet = &snapshot.interface(Slot::ZERO).unwrap().vnet;
        assert_eq!(vnet.stateful, snapshot.stateful);
        seen.push((snapshot.stateful, snapshot.policy_epoch - first));
    }
    assert_eq!(seen, [(true, 1), (true, 1), (false, 2)]);
}

/// A solicited neighbour advertisement of the gateway.
fn advertisement() -> Vec<u8> {
    let gateway: Ipv6Addr = "fd00:0:0:ff::1".parse().unwrap();
    let own: Ipv6Addr = "fd00:0:0:ff::a".parse().unwrap();
    let mac = [2, 0, 0, 0, 9, 2];
    let mut icmp = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    icmp.extend_from_slice(&gateway.octets());
    icmp.extend_from_slice(&[2, 1]);
    icmp.extend_from_slice(&mac);
    let mut pseudo = gateway.octets().to_vec();
    pseudo.extend_from_slice(&own.octets());
    pseudo.extend_from_slice(&[0, 0, 0, icmp.len() as u8, 0, 0, 0, 58]);
    pseudo.extend_from_slice(&icmp);
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 9, 1];
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 255]);
    frame.extend_from_slice(&gateway.octets());
    frame.extend_from_slice(&own.octets());
    frame.extend_from_slice(&icmp);
    frame
}

#[tokio::test]
async fn the_uplink_is_usable_when_its_gateway_answers_and_the_kernel_keeps_off() {
    let mut bench = start(settings());
    bench.fake.seen.lock().refuse_isolation = Some("not permitted".into());
    bench.snapshot(site(1)).await;
    bench
        .until("waiting", |bench| bench.status.borrow().unready == ["uplink uplink: waiting for device up0"])
        .await;
    bench.link(3, "up0", true).await;
    bench.until("solicited", |bench| bench.fake.seen.lock().told.contains(&Told::Inject)).await;
    bench.punts.send((PortId::new(1).unwrap(), advertisement())).await.unwrap();
    let usable =
        |bench: &Bench| bench.fake.seen.lock().snapshots.last().is_some_and(|s| s.uplink().is_some());
    bench.until("usable", usable).await;
    bench.until("ready", |bench| bench.status.borrow().unready.is_empty()).await;
    let seen = bench.fake.seen.lock();
    let uplink = seen.snapshots.last().unwrap().uplink().unwrap().clone();
    assert_eq!(uplink.next_hop, Some(MacAddr([2, 0, 0, 0, 9, 2])));
    assert_eq!(uplink.addresses, ["fd00:0:0:ff::a".parse::<Ipv6Addr>().unwrap()]);
}

#[tokio::test]
async fn the_uplink_follows_its_devices_mtu_and_is_opened_anew_when_that_outgrows_it() {
    for (most, kept) in [(Some(8000), true), (None, false)] {
        let mut with = settings();
        with.uplink.mtu = most;
        let mut bench = start(with);
        for mtu in [1500, 4000, 20_000] {
            let link = Link { ifindex: 3, name: "up0".into(), up: true, mtu };
            bench.links.send(LinkEvent::New(link)).await.unwrap();
            // The fake's port carries 9,000; it tells of 1,500 when it is opened.
            let told = if mtu <= 9000 { mtu } else { 8000 };
            if mtu <= 9000 || kept {
                bench.until("told", |bench| bench.status.borrow().uplink_mtu == Some(told as u16)).await;
            } else {
                bench.until("closed", |bench| bench.fake.seen.lock().told.contains(&Told::Close(1))).await;
            }
        }
        let opened = bench.fake.seen.lock().told.iter().filter(|told| matches!(told, Told::Open(_))).count();
        assert_eq!(opened > 1, !kept);
    }
}

#[tokio::test]
async fn a_device_that_its_driver_gives_up_is_closed_and_opened_anew() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.ports.send(PortEvent::Gone(PortId::new(1).unwrap())).await.unwrap();
    bench.until("local again", |bench| bench.local_of(5) == Some(2)).await;
    bench.until("closed", |bench| bench.fake.seen.lock().told.contains(&Told::Close(1))).await;
}

#[tokio::test]
async fn a_restarted_engine_forwards_by_what_is_on_disk_and_keeps_what_it_learns_there() {
    let keep = tempfile::tempdir().unwrap();
    let directory = StateDirectory::open(keep.path()).unwrap();
    let mut with = settings();
    with.directory = Some(directory.clone());
    let mut bench = start(with);
    let up = Connection::Up { host: host(), service_version: "1".into() };
    bench.events.send(Event::Connection(up)).await.unwrap();
    bench.snapshot(site(5)).await;
    bench.applied(5).await;
    bench.shutdown.send(true).unwrap();
    bench.task.await.unwrap();

    let stored = directory.load().unwrap().unwrap();
    assert_eq!(stored.state.revision, Some(revision(5)));
    let mut with = settings();
    with.stored = Some(stored);
    let mut bench = start(with);
    bench.link(4, "veth-n1", true).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    bench.applied(5).await;
    let status = bench.status.borrow().clone();
    assert!(status.provisioning.stale && !status.provisioning.connected);
}

#[tokio::test]
async fn entries_serve_up_to_stale_max_and_then_no_longer() {
    let mut with = settings();
    with.stale_max = Some(Duration::from_millis(600));
    with.stored = Some(Stored { state: site(5), contact: SystemTime::now() });
    let mut bench = start(with);
    bench.applied(5).await;
    assert_eq!(bench.fake.seen.lock().mappings.len(), 2);
    bench.until("expired", |bench| bench.fake.seen.lock().mappings.is_empty()).await;
    bench.until("said", |bench| bench.status.borrow().provisioning.expired).await;
    bench.until("forgotten", |bench| bench.applied.borrow().revision.is_none()).await;

    let mut with = settings();
    with.stale_max = Some(Duration::from_secs(60));
    let contact = SystemTime::now() - Duration::from_secs(61);
    with.stored = Some(Stored { state: site(5), contact });
    let mut bench = start(with);
    bench.until("expired", |bench| bench.status.borrow().provisioning.expired).await;
    assert!(bench.fake.seen.lock().mappings.is_empty());
    // The service comes back with everything.
    bench.snapshot(site(6)).await;
    bench.applied(6).await;
    bench.until("serving", |bench| !bench.status.borrow().provisioning.expired).await;
    assert_eq!(bench.fake.seen.lock().mappings.len(), 2);
}

#[tokio::test]
async fn each_interface_has_a_limit_of_icmp_errors_of_its_own() {
    let mut bench = start(settings());
    let mut state = site(1);
    let what = What::PutInterface(interface("n2/eth0", 1, 7, "veth-n2"));
    state.apply(Change { revision: 1, what }).unwrap();
    bench.snapshot(state).await;
    bench.link(4, "veth-n1", true).await;
    bench.link(5, "veth-n2", true).await;
    let both = |bench: &Bench| {
        let seen = bench.fake.seen.lock();
        let snapshot = seen.snapshots.last()?;
        let limit = |slot| Some(snapshot.interface(Slot::new(slot).ok()?)?.icmp_limit.clone());
        Some((limit(0)?, limit(1)?))
    };
    bench.until("attached", |bench| both(bench).is_some()).await;
    let (first, second) = both(&bench).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn whoever_asks_hears_what_last_touched_something() {
    let mut bench = start(settings());
    bench.snapshot(site(1)).await;
    bench.delta(2, vec![What::PutMapping(target(6), elsewhere(9))]).await;
    bench.applied(2).await;
    let of = vec![
        Known::Mapping(target(6)),
        Known::Mapping(target(7)),
        Known::Vnet(vnet_id()),
        Known::Interface("n1/eth0".to_owned()),
        Known::Interface("n2/eth0".to_owned()),
    ];
    let (answer, answered) = tokio::sync::oneshot::channel();
    bench.lookups.send(Lookup { of, answer }).await.unwrap();
    assert_eq!(answered.await.unwrap(), [Some(2), None, Some(1), Some(1), None]);
}
