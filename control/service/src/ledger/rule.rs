//! Rules: what may pass.

use super::acting::{Acting, has_part};
use super::quota::{self, Of};
use super::record::{
    EntityRecord, NetworkRecord, NodeRecord, PeeringRecord, RuleRecord, Scope, Touch, load, load_all_users,
    pair, text, try_scan,
};
use super::transaction::Transaction;
use super::{Outcome, check, network::missing, tag};
use crate::access::Kind;
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use ipnet::{IpNet, Ipv6Net};
use overlane_api::policy::{FieldError, Matches, Rule, RuleSpec, Selector};
use std::collections::BTreeSet;

/// The field of whose traffic it judges, and of the other end.
const ON: &str = "on";
const PEER: &str = "peer";

pub(super) fn resource(id: &str, record: RuleRecord) -> Rule {
    Rule { id: id.to_owned(), spec: record.spec, revision: record.revision }
}

/// A rule.
pub(crate) fn read(view: &dyn View, id: &str) -> Result<Rule> {
    let record = load(view, Table::Rules, id)?.ok_or_else(|| Error::absent("rule", id))?;
    Ok(resource(id, record))
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::invalid(error.field, error.message, error.legal)
    }
}

/// What can be said against a specification by itself.
fn check_spec(spec: &RuleSpec) -> Result<()> {
    check::id("entity", &spec.entity)?;
    check::description(&spec.description)?;
    Matches::of(spec)?;
    check_selector(ON, &spec.on)?;
    if spec.on.is_any() || spec.on.cidr.is_some() {
        return Err(Error::invalid(
            ON,
            format!("{} is not legal", spec.on),
            "one of node, tag, network, entity",
        ));
    }
    check_selector(PEER, &spec.peer)
}

fn check_selector(field: &str, selector: &Selector) -> Result<()> {
    let Selector { node, tag, network, entity, cidr } = selector;
    let ids = [("node", node), ("tag", tag), ("network", network), ("entity", entity)];
    for (name, id) in ids {
        if let Some(id) = id {
            check::id(&format!("{field}.{name}"), id)?;
        }
    }
    if let Some(cidr) = cidr {
        let legal =
            "a network with zeros behind the prefix length, like 10.0.0.0/24, or 2001:db8::/32 for externals";
        let net = cidr.parse::<IpNet>().ok().filter(|net| net.trunc() == *net);
        net.ok_or_else(|| Error::invalid(format!("{field}.cidr"), format!("{cidr:?} is not legal"), legal))?;
        if names_externals(selector) && network.is_none() {
            let message = format!("{cidr} is about externals, and each network has its own");
            return Err(Error::invalid(
                format!("{field}.network"),
                message,
                "the network whose externals it is about",
            ));
        }
    }
    let given = [node.is_some(), tag.is_some(), network.is_some(), entity.is_some(), cidr.is_some()];
    let legal = match (given.iter().filter(|given| **given).count(), tag, cidr) {
        (0 | 1, ..) => true,
        (2, Some(_), None) => entity.is_some(),
        (2, None, Some(_)) => network.is_some(),
        _ => false,
    };
    if legal {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        "it names more than one",
        "one of node, tag (with an entity, if it is another's), network, entity, cidr (with a network)",
    ))
}

/// Whether it is about a network's externals, by their own addresses.
pub(super) fn names_externals(selector: &Selector) -> bool {
    selector.cidr.as_ref().is_some_and(|cidr| cidr.parse::<Ipv6Net>().is_ok())
}

/// Whether the caller may know of both ends: of its own, and, at the other end, of whoever has a peering with it. What it may
/// not know of, is not there.
fn check_known(txn: &Transaction<'_>, spec: &RuleSpec) -> Result<()> {
    let Some(own) = txn.confined_to() else { return Ok(()) };
    let ids = |field, of: &'_ Selector| {
        let ids = [("node", &of.node), ("network", &of.network), ("entity", &of.entity)];
        ids.map(|(kind, id)| (field, kind, id.clone()))
    };
    for (field, kind, id) in ids(ON, &spec.on).into_iter().chain(ids(PEER, &spec.peer)) {
        let Some(id) = id else { continue };
        let known = txn.may_name(&format!("{kind}/{id}"))?
            || match kind {
                _ if field == ON => false,
                "network" => is_peer(txn, own, &format!("network/{id}"))?,
                "entity" => {
                    let networks = load_all_users(txn.view(), &format!("entity/{id}"), "network/")?;
                    let peers = networks.iter().map(|of| is_peer(txn, own, &format!("network/{of}")));
                    peers.collect::<Result<Vec<_>>>()?.contains(&true)
                }
                _ => false,
            };
        if !known {
            return Err(missing(&format!("{field}.{kind}"), kind, &id));
        }
    }
    Ok(())
}

/// Whether a network (as it stands in [`Table::Uses`]) has a peering with one of the entity's.
fn is_peer(txn: &Transaction<'_>, entity: &str, network: &str) -> Result<bool> {
    for peering in load_all_users(txn.view(), network, "peering/")? {
        if let Some(found) = txn.load::<PeeringRecord>(Table::Peerings, &peering)?
            && has_part(txn.view(), &found.networks, entity)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what a rule names is there, and the traffic that it judges is its entity's.
fn check_references(txn: &Transaction<'_>, spec: &RuleSpec) -> Result<()> {
    let entity = |field: &str, id: &str| -> Result<()> {
        let found = txn.load::<EntityRecord>(Table::Entities, id)?;
        found.map(|_| ()).ok_or_else(|| missing(field, "entity", id))
    };
    entity("entity", &spec.entity)?;
    check_known(txn, spec)?;
    for (field, selector) in [(ON, &spec.on), (PEER, &spec.peer)] {
        let own = |what: &str, of: &str| {
            if field == PEER || of == spec.entity {
                return Ok(());
            }
            let problem = format!("it belongs to entity {of}, the rule to {}", spec.entity);
            Err(Error::invalid(format!("{field}.{what}"), problem, format!("a {what} of the rule's entity")))
        };
        if let Some(id) = &selector.node {
            let name = format!("{field}.node");
            let node: NodeRecord = txn.load(Table::Nodes, id)?.ok_or_else(|| missing(&name, "node", id))?;
            own("node", &node.entity)?;
        }
        if let Some(id) = &selector.network {
            let name = format!("{field}.network");
            let found: Option<NetworkRecord> = txn.load(Table::Networks, id)?;
            own("network", &found.ok_or_else(|| missing(&name, "network", id))?.entity)?;
        }
        if let Some(id) = &selector.entity {
            entity(&format!("{field}.entity"), id)?;
            own("entity", id)?;
        }
    }
    Ok(())
}

/// What a rule needs, as `kind/id`.
fn needs(spec: &RuleSpec) -> BTreeSet<String> {
    let mut needs = BTreeSet::from([format!("entity/{}", spec.entity)]);
    for selector in [&spec.on, &spec.peer] {
        needs.extend(selector.node.iter().map(|id| format!("node/{id}")));
        needs.extend(selector.network.iter().map(|id| format!("network/{id}")));
        needs.extend(selector.entity.iter().map(|id| format!("entity/{id}")));
    }
    needs
}

/// The tags that a rule is about.
fn tags(spec: &RuleSpec) -> BTreeSet<(String, String)> {
    let named = |selector: &Selector| {
        let tag = selector.tag.clone()?;
        Some((selector.entity.clone().unwrap_or_else(|| spec.entity.clone()), tag))
    };
    [&spec.on, &spec.peer].into_iter().filter_map(named).collect()
}

/// Whose traffic a rule judges.
pub(super) fn scope(view: &dyn View, spec: &RuleSpec) -> Result<Scope> {
    let gone =
        |what: &str, id: &str| Error::Record { key: format!("{what}/{id}"), problem: "it is missing".into() };
    Ok(match &spec.on {
        Selector { node: Some(node), .. } => Scope::Node(node.clone()),
        Selector { tag: Some(name), entity, .. } => {
            let entity = entity.as_ref().unwrap_or(&spec.entity);
            Scope::Tag(tag::number(view, entity, name)?.ok_or_else(|| gone("Tags", name))?)
        }
        Selector { network: Some(id), .. } => {
            let network: NetworkRecord =
                load(view, Table::Networks, id)?.ok_or_else(|| gone("Networks", id))?;
            Scope::Vnet(network.vnet)
        }
        _ => Scope::Entity(spec.entity.clone()),
    })
}

/// Takes a rule in, or out, of all indexes; it is as `spec` says at the moment.
fn settle(
    txn: &mut Transaction<'_>,
    id: &str,
    before: Option<&RuleSpec>,
    after: Option<&RuleSpec>,
) -> Result<()> {
    let user = format!("rule/{id}");
    let of = |spec: Option<&RuleSpec>| spec.map(|spec| (needs(spec), tags(spec))).unwrap_or_default();
    let ((needs_was, tags_was), (needs_is, tags_is)) = (of(before), of(after));
    // While its tags still have their numbers.
    if let Some(before) = before {
        let scope = scope(txn.view(), before)?;
        txn.delete(Table::Scopes, &pair(&scope.key(), id.as_bytes()))?;
    }
    tag::settle(txn, &user, &tags_was, &tags_is)?;
    for used in needs_was.difference(&needs_is) {
        txn.drop_use(used, &user)?;
    }
    for used in needs_is.difference(&needs_was) {
        txn.add_use(used, &user)?;
    }
    if let Some(after) = after {
        let scope = scope(txn.view(), after)?;
        txn.put(Table::Scopes, &pair(&scope.key(), id.as_bytes()), &[])?;
    }
    Ok(())
}

/// The rules that judge the traffic of a scope, by its key.
pub(super) fn of_scope(view: &dyn View, scope: &str) -> Result<Vec<String>> {
    let prefix = pair(scope, &[]);
    let mut rules = Vec::new();
    try_scan(view, Table::Scopes, &prefix, &[], |key, _| {
        let id = key.get(prefix.len()..).unwrap_or_default().to_vec();
        rules.push(text(Table::Scopes, key, id)?);
        Ok(Step::Continue(()))
    })?;
    Ok(rules)
}

/// Engines hear again of the rules about all networks of an entity, which has others now.
pub(super) fn touch_entity(txn: &mut Transaction<'_>, entity: &str) -> Result<()> {
    let names = |selector: &Selector| selector.entity.as_deref() == Some(entity) && selector.tag.is_none();
    touch_users(txn, &format!("entity/{entity}"), |spec| names(&spec.on) || names(&spec.peer))
}

/// Engines hear again of the rules that need `used`, which has changed, as far as that `matters`.
pub(super) fn touch_users(
    txn: &mut Transaction<'_>,
    used: &str,
    matters: impl Fn(&RuleSpec) -> bool,
) -> Result<()> {
    for user in load_all_users(txn.view(), used, "rule/")? {
        let Some(record) = txn.load::<RuleRecord>(Table::Rules, &user)? else { continue };
        if !matters(&record.spec) {
            continue;
        }
        let record = RuleRecord { revision: txn.revision(), ..record };
        txn.save(Table::Rules, &user, &record)?;
        txn.touch(Touch::Rule { id: user, deleted: None });
    }
    Ok(())
}

impl Acting<'_> {
    /// Makes a rule, or brings it to what is asked, at once and as a whole. Its entity cannot change.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_rule(&self, id: &str, spec: &RuleSpec) -> Result<(Outcome, Rule)> {
        check::id("id", id)?;
        check_spec(spec)?;
        self.write(|txn| {
            let found: Option<RuleRecord> = txn.load(Table::Rules, id)?;
            let owner = found.as_ref().map(|found| found.spec.entity.as_str());
            txn.authorise_put(Kind::Rule, id, owner, &spec.entity)?;
            if let Some(found) = &found {
                if found.spec.entity != spec.entity {
                    return Err(Error::conflict(
                        "entity",
                        format!("rule {id} belongs to {}; that cannot change", found.spec.entity),
                        found.spec.entity.clone(),
                    ));
                }
                if found.spec == *spec {
                    return Ok((Outcome::Confirmed, resource(id, found.clone())));
                }
            }
            check_references(txn, spec)?;
            if found.is_none() {
                quota::count(txn, &spec.entity, Of::Rules, 1)?;
            }
            settle(txn, id, found.as_ref().map(|found| &found.spec), Some(spec))?;
            let record = RuleRecord { spec: spec.clone(), revision: txn.revision() };
            txn.save(Table::Rules, id, &record)?;
            txn.touch(Touch::Rule { id: id.to_owned(), deleted: None });
            txn.summarise(found.as_ref().map(|found| &found.spec), Some(spec));
            let outcome = if found.is_some() { Outcome::Confirmed } else { Outcome::Created };
            Ok((outcome, resource(id, record)))
        })
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there.
    pub fn delete_rule(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            let found: RuleRecord = txn.load(Table::Rules, id)?.ok_or_else(|| Error::absent("rule", id))?;
            txn.authorise_delete(Kind::Rule, id, Some(&found.spec.entity))?;
            quota::count(txn, &found.spec.entity, Of::Rules, -1)?;
            settle(txn, id, Some(&found.spec), None)?;
            txn.delete(Table::Rules, id.as_bytes())?;
            txn.touch(Touch::Rule { id: id.to_owned(), deleted: Some(found.revision) });
            Ok(())
        })
    }
}
