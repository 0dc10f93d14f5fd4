//! The ledger under random operations: every index agrees with the records after each, a refused operation changes
//! nothing, and an engine that follows by deltas knows what a fresh snapshot says.

use overlane_api::access::{Quota, TokenRole, TokenSpec};
use overlane_api::dhcp::Dhcp;
use overlane_api::external::{External, Externals};
use overlane_api::group::GroupSettings;
use overlane_api::policy::{Action, DefaultAction, Direction, PeeringSpec, RuleSpec, Selector};
use overlane_api::resource::{
    Attachment, AttachmentKind, EntitySpec, HostSpec, InterfaceSpec, InterfaceState, MappingMode,
    MoveRequest, NetworkSpec, NodeSpec, RateLimit, Subnet,
};
use overlane_api::sync::{Change, change::What};
use overlane_control::access::{Actor, Caller, Role};
use overlane_control::error::{Error, Result};
use overlane_control::ledger::{
    Audience, AuditLimits, Catchup, Ledger, MoveStep, Report, Settings, catch_up, snapshot, verify,
};
use overlane_control::store::{RedbStore, Step, Store, Table};
use overlane_dataplane::address::Layout;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

const SETTINGS: Settings = Settings {
    layout: Layout::Slot64,
    log_revisions: 20,
    on_demand_above: 3,
    quota: Quota { networks: 3, nodes: 4, interfaces: 5, rules: 3, tokens: 2 },
    audit: AuditLimits { keep: 10, age: 3600 },
};

/// Whoever does everything here.
fn operator() -> Caller {
    let actor = Actor::Certificate("operator".to_owned());
    Caller { actor, role: Role::Operator, source: None }
}

#[derive(Debug, Clone)]
enum Operation {
    /// With how many packets a second its interfaces may send; deleted.
    Entity(u8, Option<u8>),
    Network(u8, u8, u8, bool),
    /// A second subnet, or not.
    Subnets(u8, bool),
    /// How its mappings are told.
    Mode(u8, MappingMode),
    Retag(u8, Vec<u8>),
    Host(u8, u8, bool),
    Node {
        node: u8,
        host: u8,
        network: u8,
        slot: Option<u32>,
        addresses: Vec<u8>,
        device: u8,
        tags: Vec<u8>,
    },
    DeleteNode(u8),
    /// Of an operator, or of an entity.
    Token(u8, Option<u8>),
    DeleteToken(u8),
    Move(u8, u8),
    Step(u8, bool),
    /// Of a node on a host: its state, and the groups that it has joined.
    Report(u8, u8, u8, Vec<u8>),
    Rule {
        id: u8,
        entity: u8,
        on: u8,
        peer: u8,
        deny: bool,
    },
    DeleteRule(u8),
    Peering {
        id: u8,
        networks: (u8, u8),
        deny: bool,
    },
    DeletePeering(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    let addresses = prop::collection::vec(0u8..12, 1..4);
    let tags = prop::collection::vec(0u8..3, 0..3);
    let node = (0u8..5, 0u8..3, 0u8..3, prop::option::of(0u32..4), addresses, 0u8..5, tags);
    prop_oneof![
        1 => (0u8..2, prop::option::weighted(0.7, 0u8..3)).prop_map(|(id, put)| Operation::Entity(id, put)),
        2 => (0u8..3, 0u8..2, 1u8..4, prop::bool::weighted(0.8))
            .prop_map(|(id, entity, vnet, put)| Operation::Network(id, entity, vnet, put)),
        1 => (0u8..3, any::<bool>()).prop_map(|(id, second)| Operation::Subnets(id, second)),
        2 => (0u8..3, prop::sample::select(vec![
            MappingMode::Automatic, MappingMode::Subscribe, MappingMode::OnDemand,
        ])).prop_map(|(id, mode)| Operation::Mode(id, mode)),
        3 => (0u8..5, prop::collection::vec(0u8..3, 0..3)).prop_map(|(node, tags)| Operation::Retag(node, tags)),
        2 => (0u8..3, 1u8..4, prop::bool::weighted(0.8)).prop_map(|(id, capacity, put)| Operation::Host(id, capacity, put)),
        8 => node.prop_map(|(node, host, network, slot, addresses, device, tags)| Operation::Node {
            node, host, network, slot, addresses, device, tags,
        }),
        1 => (0u8..5).prop_map(Operation::DeleteNode),
        3 => (0u8..4, prop::option::weighted(0.8, 0u8..2)).prop_map(|(id, entity)| Operation::Token(id, entity)),
        2 => (0u8..4).prop_map(Operation::DeleteToken),
        3 => (0u8..5, 0u8..3).prop_map(|(node, host)| Operation::Move(node, host)),
        4 => (0u8..5, prop::bool::weighted(0.8)).prop_map(|(node, on)| Operation::Step(node, on)),
        4 => (0u8..5, 0u8..3, 0u8..4, prop::collection::btree_set(0u8..3, 0..3)).prop_map(
            |(node, host, state, joined)| Operation::Report(node, host, state, joined.into_iter().collect())
        ),
        6 => (0u8..4, 0u8..2, 0u8..9, 0u8..12, any::<bool>())
            .prop_map(|(id, entity, on, peer, deny)| Operation::Rule { id, entity, on, peer, deny }),
        2 => (0u8..4).prop_map(Operation::DeleteRule),
        3 => (0u8..2, (0u8..3, 0u8..3), any::<bool>())
            .prop_map(|(id, networks, deny)| Operation::Peering { id, networks, deny }),
        2 => (0u8..2).prop_map(Operation::DeletePeering),
    ]
}

fn group(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(239, 0, 0, last)
}

/// Systems without an engine.
fn externals(number: u8) -> Externals {
    let external =
        |name: &str, address: &str| External { name: name.into(), address: address.into(), ipv4: None };
    let systems = match number % 4 {
        0 => Vec::new(),
        1 => vec![external("one", "2001:db8::5"), external("many", "2001:db8:1::/124")],
        2 => vec![external("one", "2001:db8::5")],
        _ => vec![external("many", "2001:db8:1::/124")],
    };
    Externals { pool: (!number.is_multiple_of(4)).then(|| "10.255.0.0/27".into()), systems }
}

/// A network behind whoever has the tag, one of them with the first network's addresses in it.
fn behind(tag: u8) -> String {
    if tag == 0 { "10.0.0.0/28".to_owned() } else { format!("10.9.{tag}.0/24") }
}

fn apply(ledger: &Ledger, operation: &Operation) -> Result<()> {
    let operator = operator();
    let ledger = &ledger.by(&operator);
    match operation.clone() {
        Operation::Entity(id, Some(rate)) => {
            let packets_per_second = (rate > 0).then_some(rate.into());
            let rate = RateLimit { packets_per_second, bits_per_second: None };
            let spec = EntitySpec { rate, ..EntitySpec::default() };
            ledger.put_entity(&format!("e{id}"), &spec).map(|_| ())
        }
        Operation::Entity(id, None) => ledger.delete_entity(&format!("e{id}")),
        Operation::Network(id, entity, vnet, true) => {
            // Two of the three have the same addresses.
            let (cidr, gateway) = (format!("10.{}.0.0/29", id % 2), format!("10.{}.0.6", id % 2));
            let subnets = vec![Subnet { cidr, gateway: Some(gateway) }];
            let spec = NetworkSpec {
                entity: format!("e{entity}"),
                vnet: Some(u32::from(vnet)),
                subnets,
                default_action: Default::default(),
                mapping: MappingMode::default(),
                dhcp: None,
                groups: GroupSettings::default(),
                externals: externals(vnet),
            };
            ledger.put_network(&format!("n{id}"), &spec).map(|_| ())
        }
        Operation::Mode(id, mapping) => {
            let id = format!("n{id}");
            let Some(found) = stored(ledger, Table::Networks, &id) else { return Ok(()) };
            let subnet = |subnet: &serde_json::Value| Subnet {
                cidr: subnet["net"].as_str().unwrap().into(),
                gateway: subnet["gateway"].as_str().map(str::to_owned),
            };
            let spec = NetworkSpec {
                entity: found["entity"].as_str().unwrap().to_owned(),
                vnet: None,
                subnets: found["subnets"].as_array().unwrap().iter().map(subnet).collect(),
                default_action: Default::default(),
                mapping,
                dhcp: None,
                groups: GroupSettings::default(),
                externals: serde_json::from_value(found["externals"].clone()).unwrap_or_default(),
            };
            ledger.put_network(&id, &spec).map(|_| ())
        }
        Operation::Subnets(id, second) => {
            let id = format!("n{id}");
            let found = stored(ledger, Table::Networks, &id);
            let Some(found) = found else { return Ok(()) };
            let subnet =
                |net: &serde_json::Value| Subnet { cidr: net["net"].as_str().unwrap().into(), gateway: None };
            let mut subnets: Vec<Subnet> =
                found["subnets"].as_array().unwrap().iter().take(1).map(subnet).collect();
            if second {
                subnets.push(Subnet { cidr: format!("10.{}.1.0/29", &id[1..]), gateway: None });
            }
            let spec = NetworkSpec {
                entity: found["entity"].as_str().unwrap().to_owned(),
                vnet: None,
                subnets,
                default_action: Default::default(),
                mapping: serde_json::from_value(found["mapping"].clone()).unwrap(),
                dhcp: second.then(Dhcp::default),
                groups: GroupSettings { broadcast: second, ..GroupSettings::default() },
                externals: if second { externals(3) } else { Externals::default() },
            };
            ledger.put_network(&id, &spec).map(|_| ())
        }
        Operation::Retag(node, tags) => {
            let id = format!("w{node}");
            let interface = stored(ledger, Table::Interfaces, &format!("{id}/eth0"));
            let (Some(found), Some(is)) = (stored(ledger, Table::Nodes, &id), interface) else {
                return Ok(());
            };
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let interface = InterfaceSpec {
                name: "eth0".to_owned(),
                network: text(&is["network"]),
                mac: None,
                slot: None,
                addresses: is["addresses"].as_array().unwrap().iter().map(text).collect(),
                groups: tags.iter().map(|tag| group((*tag + 1) % 3).to_string()).collect(),
                routes: tags.iter().map(|tag| behind((*tag + 1) % 3)).collect(),
                transit: Vec::new(),
                rate: RateLimit::default(),
                attachment: serde_json::from_value(is["home"]["attachment"].clone()).unwrap(),
            };
            let spec = NodeSpec {
                entity: text(&found["entity"]),
                host: text(&found["host"]),
                tags: tags.iter().map(|tag| format!("t{tag}")).collect(),
                interfaces: vec![interface],
            };
            ledger.put_node(&id, &spec).map(|_| ())
        }
        Operation::Network(id, _, _, false) => ledger.delete_network(&format!("n{id}")),
        Operation::Host(id, capacity, true) => {
            let spec =
                HostSpec { prefix: format!("fd00:0:0:{}::/64", id + 1), capacity: u32::from(capacity) };
            ledger.put_host(&format!("h{id}"), &spec).map(|_| ())
        }
        Operation::Host(id, _, false) => ledger.delete_host(&format!("h{id}")),
        Operation::Node { node, host, network, slot, addresses, device, tags } => {
            let interface = InterfaceSpec {
                name: "eth0".to_owned(),
                network: format!("n{network}"),
                mac: None,
                slot,
                addresses: addresses.iter().map(|last| format!("10.{}.0.{last}", network % 2)).collect(),
                groups: tags.iter().map(|tag| group(*tag).to_string()).collect(),
                routes: tags.iter().map(|tag| behind(*tag)).collect(),
                transit: slot.map(|_| "0.0.0.0/0".to_owned()).into_iter().collect(),
                rate: RateLimit { packets_per_second: slot.map(|slot| slot + 1), bits_per_second: None },
                attachment: Attachment { kind: AttachmentKind::Veth, device: format!("d{device}") },
            };
            let spec = NodeSpec {
                entity: format!("e{}", network % 2),
                host: format!("h{host}"),
                tags: tags.iter().map(|tag| format!("t{tag}")).collect(),
                interfaces: vec![interface],
            };
            ledger.put_node(&format!("w{node}"), &spec).map(|_| ())
        }
        Operation::Token(id, entity) => {
            let role = if entity.is_some() { TokenRole::Entity } else { TokenRole::Operator };
            let entity = entity.map(|id| format!("e{id}"));
            let spec = TokenSpec { name: String::new(), role, entity, expires_in: None };
            ledger.put_token(&format!("t{id}"), &spec).map(|_| ())
        }
        Operation::DeleteToken(id) => ledger.delete_token(&format!("t{id}")),
        Operation::DeleteNode(node) => ledger.delete_node(&format!("w{node}")),
        Operation::Move(node, host) => {
            let request = MoveRequest { host: format!("h{host}"), interfaces: Vec::new() };
            ledger.move_node(&format!("w{node}"), &request).map(|_| ())
        }
        Operation::Step(node, on) => {
            let id = format!("w{node}");
            let phase = phase_revision(ledger, &id);
            let how = if on { MoveStep::Advance } else { MoveStep::Cancel };
            phase.map_or(Ok(()), |phase| ledger.step_move(&id, phase, how))
        }
        Operation::Report(node, host, state, joined) => {
            let state = InterfaceState::ALL[usize::from(state)];
            let joined: Vec<Ipv4Addr> = joined.into_iter().map(group).collect();
            // Half of the reports say that it is silent.
            let report = Report { state, detail: "", joined: &joined, silent: joined.len() == 1 };
            ledger.report(&format!("h{host}"), &format!("w{node}/eth0"), &report).map(|_| ())
        }
        Operation::Rule { id, entity, on, peer, deny } => {
            let spec = rule(entity, selector(on), selector(peer), deny);
            ledger.put_rule(&format!("r{id}"), &spec).map(|_| ())
        }
        Operation::DeleteRule(id) => ledger.delete_rule(&format!("r{id}")),
        Operation::Peering { id, networks: (one, two), deny } => {
            let default_action = if deny { DefaultAction::Deny } else { DefaultAction::Allow };
            let spec = PeeringSpec { networks: vec![format!("n{one}"), format!("n{two}")], default_action };
            ledger.put_peering(&format!("p{id}"), &spec).map(|_| ())
        }
        Operation::DeletePeering(id) => ledger.delete_peering(&format!("p{id}")),
    }
}

/// Whom a rule is about: some of everything.
fn selector(choice: u8) -> Selector {
    let any = Selector::default();
    match choice {
        0..3 => Selector { node: Some(format!("w{choice}")), ..any },
        3..5 => Selector { tag: Some(format!("t{}", choice - 3)), ..any },
        5..7 => Selector { network: Some(format!("n{}", choice - 5)), ..any },
        7..9 => Selector { entity: Some(format!("e{}", choice - 7)), ..any },
        9 => Selector { cidr: Some("10.0.0.0/30".to_owned()), ..any },
        10 => Selector { tag: Some("t2".to_owned()), entity: Some("e1".to_owned()), ..any },
        _ => any,
    }
}

fn rule(entity: u8, on: Selector, peer: Selector, deny: bool) -> RuleSpec {
    RuleSpec {
        entity: format!("e{entity}"),
        description: String::new(),
        priority: 10,
        direction: Direction::Ingress,
        on,
        peer,
        protocol: None,
        ports: None,
        source_ports: None,
        icmp: None,
        size: None,
        window: None,
        action: if deny { Action::Deny } else { Action::Allow },
        stateless: false,
    }
}

fn stored(ledger: &Ledger, table: Table, id: &str) -> Option<serde_json::Value> {
    let record = ledger.view().unwrap().get(table, id.as_bytes()).unwrap()?;
    Some(serde_json::from_slice(&record).unwrap())
}

fn phase_revision(ledger: &Ledger, node: &str) -> Option<u64> {
    stored(ledger, Table::Nodes, node)?["moving"]["phase_revision"].as_u64()
}

/// Everything that an engine knows, keyed; what a change says of a key, without its revision.
type Known = BTreeMap<String, (u64, What)>;

fn learn(known: &mut Known, change: Change) {
    let what = change.what.unwrap();
    let (key, put) = match &what {
        What::PutHost(_) => ("host".to_owned(), true),
        What::PutVnet(vnet) => (format!("vnet {}", vnet.id), true),
        What::DeleteVnet(vnet) => (format!("vnet {vnet}"), false),
        What::PutInterface(interface) => (format!("interface {}", interface.id), true),
        What::DeleteInterface(id) => (format!("interface {id}"), false),
        What::PutMapping(mapping) => (format!("mapping {:?}", mapping.key.unwrap()), true),
        What::DeleteMapping(key) => (format!("mapping {key:?}"), false),
        What::PutRule(rule) => (format!("rule {}", rule.id), true),
        What::DeleteRule(id) => (format!("rule {id}"), false),
        What::PutGroup(group) => (format!("group {} {}", group.vnet, group.ipv4), true),
        What::DeleteGroup(key) => (format!("group {} {}", key.vnet, key.ipv4), false),
        // It is for engines that hold the mapping.
        What::RefreshMapping(mapping) => {
            let key = format!("mapping {:?}", mapping.key.unwrap());
            if let Some(kept) = known.get_mut(&key).filter(|(kept, _)| *kept <= change.revision) {
                *kept = (change.revision, What::PutMapping(mapping.clone()));
            }
            return;
        }
    };
    if put {
        known.insert(key, (change.revision, what));
    } else if known.get(&key).is_some_and(|(kept, _)| *kept <= change.revision) {
        known.remove(&key);
    }
}

/// What an engine forgets by itself: what it holds of vnets that are on demand, but for its own interfaces' addresses, and of
/// vnets that it has nothing to do with; of those that it has left the groups.
fn forget(known: &mut Known) {
    let mut on_demand = BTreeMap::new();
    let mut own = Vec::new();
    for (_, what) in known.values() {
        match what {
            What::PutVnet(vnet) => {
                for peering in &vnet.peerings {
                    on_demand.entry(peering.vnet).or_insert(peering.on_demand);
                }
            }
            What::PutInterface(interface) => {
                own.extend(interface.addresses.iter().map(|ipv4| (interface.vnet, *ipv4)));
            }
            _ => {}
        }
    }
    for (_, what) in known.values() {
        if let What::PutVnet(vnet) = what {
            on_demand.insert(vnet.id, vnet.on_demand);
        }
    }
    let present: Vec<u32> = known
        .values()
        .filter_map(|(_, what)| match what {
            What::PutVnet(vnet) => Some(vnet.id),
            _ => None,
        })
        .collect();
    known.retain(|_, (_, what)| match what {
        What::PutGroup(group) => present.contains(&group.vnet),
        What::PutMapping(mapping) => {
            let key = mapping.key.unwrap();
            on_demand.get(&key.vnet).is_none_or(|on_demand| !on_demand) || own.contains(&(key.vnet, key.ipv4))
        }
        _ => true,
    });
}

fn fresh(ledger: &Ledger, host: &str) -> Option<Known> {
    let mut known = Known::new();
    let view = ledger.view().unwrap();
    let audience = Audience { layout: SETTINGS.layout, host, groups: true };
    snapshot(&*view, audience, &mut |changes| {
        changes.into_iter().for_each(|change| learn(&mut known, change));
        Step::Continue(())
    })
    .unwrap()?;
    Some(known)
}

fn values(known: &Known) -> BTreeMap<&String, &What> {
    known.iter().map(|(key, (_, what))| (key, what)).collect()
}

fn scratch() -> (tempfile::TempDir, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let ledger = Ledger::open(Arc::new(RedbStore::open(&path).unwrap()), &path, SETTINGS).unwrap();
    (directory, ledger)
}

/// The whole state, as one value.
fn dump(ledger: &Ledger) -> Vec<u8> {
    let mut all = Vec::new();
    overlane_control::backup::write(&*ledger.view().unwrap(), &mut |line| {
        all.extend(line);
        Step::Continue(())
    })
    .unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn indexes_agree_and_deltas_say_what_a_snapshot_says(
        operations in prop::collection::vec((operation(), 0u8..6), 1..80),
    ) {
        let (_directory, ledger) = scratch();
        for id in 0..2 {
            ledger.by(&operator()).put_entity(&format!("e{id}"), &EntitySpec::default()).unwrap();
        }
        for id in 0..3 {
            apply(&ledger, &Operation::Network(id, id % 2, id + 1, true)).unwrap();
            apply(&ledger, &Operation::Host(id, 3, true)).unwrap();
        }
        let mut engines: Vec<Option<(u64, Known)>> = vec![None, None, None];
        for (operation, listens) in &operations {
            let before = dump(&ledger);
            match apply(&ledger, operation) {
                Ok(()) => {}
                Err(Error::Refused(_)) => prop_assert_eq!(before, dump(&ledger), "refused, and yet: {:?}", operation),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
            let view = ledger.view().unwrap();
            if let Err(error) = verify(&*view) {
                return Err(TestCaseError::fail(format!("after {operation:?}: {error}")));
            }
            prop_assert!(view.count(Table::Audit).unwrap() <= SETTINGS.audit.keep);
            // Not every engine listens each time: some catch up with several changes at once.
            let place = usize::from(*listens);
            let Some(engine) = engines.get_mut(place) else { continue };
            let host = format!("h{place}");
            let Some(truth) = fresh(&ledger, &host) else {
                *engine = None;
                continue;
            };
            let now = *ledger.revisions().borrow();
            let audience = Audience { layout: SETTINGS.layout, host: &host, groups: true };
            let known = match engine.take() {
                None => truth.clone(),
                Some((since, mut known)) => match catch_up(&*view, audience, since, 4096).unwrap() {
                    Catchup::Nothing(_) => known,
                    Catchup::Snapshot => truth.clone(),
                    Catchup::Delta(to, changes) => {
                        prop_assert_eq!(to, now);
                        changes.into_iter().for_each(|change| learn(&mut known, change));
                        forget(&mut known);
                        known
                    }
                },
            };
            prop_assert_eq!(values(&known), values(&truth), "{} after {:?}", host, operation);
            *engine = Some((now, known));
        }
    }
}

#[test]
fn what_was_told_of_a_vnet_is_taken_back_though_it_went_on_demand_before_the_host_left_it() {
    let (_directory, ledger) = scratch();
    ledger.by(&operator()).put_entity("e1", &EntitySpec::default()).unwrap();
    let node = |node, host, last| Operation::Node {
        node,
        host,
        network: 1,
        slot: None,
        addresses: vec![last],
        device: node,
        tags: Vec::new(),
    };
    let before = [
        Operation::Network(1, 1, 2, true),
        Operation::Host(0, 3, true),
        Operation::Host(1, 3, true),
        node(0, 0, 1),
        node(1, 1, 2),
    ];
    before.iter().for_each(|operation| apply(&ledger, operation).unwrap());
    let mut known = fresh(&ledger, "h1").unwrap();
    let since = *ledger.revisions().borrow();

    apply(&ledger, &Operation::Mode(1, MappingMode::OnDemand)).unwrap();
    apply(&ledger, &Operation::DeleteNode(1)).unwrap();
    let audience = Audience { layout: SETTINGS.layout, host: "h1", groups: true };
    let Catchup::Delta(_, changes) = catch_up(&*ledger.view().unwrap(), audience, since, 4096).unwrap()
    else {
        panic!("must be told what changed");
    };
    changes.into_iter().for_each(|change| learn(&mut known, change));
    forget(&mut known);
    assert_eq!(values(&known), values(&fresh(&ledger, "h1").unwrap()));
}

fn refusal(result: Result<Ledger>) -> String {
    match result {
        Ok(_) => panic!("must be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_store_of_a_newer_schema_or_another_layout_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let open = |settings| {
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
        Ledger::open(store, &path, settings)
    };
    drop(open(SETTINGS).unwrap());
    let other = refusal(open(Settings { layout: Layout::Plain72, ..SETTINGS }));
    assert!(
        other.contains("store.redb: was made for the layout slot64, the configuration says plain72"),
        "{other}"
    );

    let store = RedbStore::open(&path).unwrap();
    let mut update = store.update().unwrap();
    update.put(Table::Meta, b"schema", &6u64.to_be_bytes()).unwrap();
    update.commit().unwrap();
    drop(store);
    let newer = refusal(open(SETTINGS));
    assert!(
        newer.contains("has schema version 6; this build of overlane-control knows versions 1 to 5"),
        "{newer}"
    );
}

#[test]
fn a_store_of_the_schema_before_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let schema = || {
        let store = RedbStore::open(&path).unwrap();
        let schema = store.view().unwrap().get(Table::Meta, b"schema").unwrap();
        schema.map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
    };
    drop(Ledger::open(Arc::new(RedbStore::open(&path).unwrap()), &path, SETTINGS).unwrap());
    let store = RedbStore::open(&path).unwrap();
    let mut update = store.update().unwrap();
    update.put(Table::Meta, b"schema", &1u64.to_be_bytes()).unwrap();
    update.commit().unwrap();
    drop(store);
    drop(Ledger::open(Arc::new(RedbStore::open(&path).unwrap()), &path, SETTINGS).unwrap());
    assert_eq!(schema(), Some(5));
}

#[test]
fn damaged_store_files_are_refused_and_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    {
        let ledger = Ledger::open(Arc::new(RedbStore::open(&path).unwrap()), &path, SETTINGS).unwrap();
        for id in 0..50 {
            let spec = EntitySpec { description: "x".repeat(200), ..EntitySpec::default() };
            ledger.by(&operator()).put_entity(&format!("e{id}"), &spec).unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[64..128].fill(0xa5);
    let half = whole.len() / 2;
    let cases = [
        whole[..half].to_vec(),
        whole[..whole.len() - 4096].to_vec(),
        whole[..100].to_vec(),
        b"not a store at all".to_vec(),
        Vec::new(),
        flipped,
    ];
    for (nth, damaged) in cases.into_iter().enumerate() {
        std::fs::write(&path, &damaged).unwrap();
        let refused =
            RedbStore::open(&path).err().unwrap_or_else(|| panic!("case {nth} was opened")).to_string();
        assert!(
            refused.contains("store.redb") && refused.contains("overlane-control restore"),
            "{nth}: {refused}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "case {nth} was written to");
    }
    std::fs::write(&path, &whole).unwrap();
    let store = RedbStore::open(&path).unwrap();
    let refused = RedbStore::open(&path).err().unwrap().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    drop(store);
}
