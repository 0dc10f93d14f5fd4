//! The ledger in somebody's name. What may be done is decided in the transaction in which it is done: between the question
//! and the deed nothing changes hands.

use super::record::{EntityRecord, NetworkRecord, NodeRecord, PeeringRecord, RuleRecord, TokenRecord, load};
use super::transaction::Transaction;
use super::{Ledger, Outcome, network::missing, token};
use crate::access::{Actor, Caller, Decision, Kind, Verb, decide};
use crate::error::{Error, Result};
use crate::store::{Table, View};
use overlane_api::access::Token;
use overlane_api::policy::{Peering, Rule};
use overlane_api::resource::{Entity, Network, Node};
use std::ops::Deref;

/// A [`Ledger`] that a caller changes.
#[derive(Clone, Copy)]
pub struct Acting<'a> {
    ledger: &'a Ledger,
    caller: &'a Caller,
}

impl Deref for Acting<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        self.ledger
    }
}

impl<'a> Acting<'a> {
    pub(super) const fn new(ledger: &'a Ledger, caller: &'a Caller) -> Self {
        Self { ledger, caller }
    }

    /// Makes a change in the caller's name. Whatever `change` puts or deletes, it has asked
    /// [`Transaction::authorise_put`] or its like for before, or nothing comes of it.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        self.ledger.write_for(Some(self.caller), |txn| {
            // A token that was revoked since the request came in is good for nothing any more.
            if let Actor::Token(id) = &self.caller.actor
                && token::find(txn.view(), id)?.is_none_or(|found| found.role != self.caller.role)
            {
                return Err(Error::unauthenticated("the token has been revoked", "a token that is good"));
            }
            change(txn)
        })
    }
}

fn never() -> Error {
    Error::forbidden(
        None,
        "this is for operators only",
        "an operator's certificate or token; with an entity's, its own networks, nodes, rules and peerings",
    )
}

/// What a caller may see, as a resource that has been read: every kind of resource says whose it is.
pub(crate) trait Owned {
    /// What kind it is.
    const KIND: Kind;

    /// Its id.
    fn id(&self) -> &str;

    /// Whether it is, at the moment of `view`, an entity's to see.
    fn is_of(&self, view: &dyn View, entity: &str) -> Result<bool>;
}

macro_rules! owned_by_entity {
    ($($resource:ty, $kind:expr, $entity:expr);+) => {$(
        impl Owned for $resource {
            const KIND: Kind = $kind;

            fn id(&self) -> &str {
                &self.id
            }

            fn is_of(&self, _: &dyn View, entity: &str) -> Result<bool> {
                let of: fn(&Self) -> Option<&str> = $entity;
                Ok(of(self) == Some(entity))
            }
        }
    )+};
}

owned_by_entity! {
    Entity, Kind::Entity, |is| Some(&is.id);
    Network, Kind::Network, |is| Some(&is.entity);
    Node, Kind::Node, |is| Some(&is.entity);
    Rule, Kind::Rule, |is| Some(&is.spec.entity);
    Token, Kind::Token, |is| is.entity.as_deref()
}

impl Owned for Peering {
    const KIND: Kind = Kind::Peering;

    fn id(&self) -> &str {
        &self.id
    }

    fn is_of(&self, view: &dyn View, entity: &str) -> Result<bool> {
        has_part(view, &self.networks, entity)
    }
}

/// Whether one of the networks is the entity's.
pub(super) fn has_part(view: &dyn View, networks: &[String], entity: &str) -> Result<bool> {
    for id in networks {
        if load::<NetworkRecord>(view, Table::Networks, id)?.is_some_and(|network| network.entity == entity) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was read, if the caller may see it; else it does not exist.
///
/// # Errors
/// [`Error::Refused`].
pub(crate) fn shown<R: Owned>(view: &dyn View, caller: &Caller, resource: R) -> Result<R> {
    match (decide(&caller.role, R::KIND, Verb::Read), caller.entity()) {
        (Decision::Any, _) => Ok(resource),
        (Decision::Own, Some(entity)) if resource.is_of(view, entity)? => Ok(resource),
        (Decision::Own, _) => Err(Error::absent(R::KIND.name(), resource.id())),
        (Decision::Never, _) => Err(never()),
    }
}

/// Whose lists the caller sees: `None`: everybody's.
pub(crate) fn listed(caller: &Caller, kind: Kind) -> Result<Option<&str>> {
    match decide(&caller.role, kind, Verb::Read) {
        Decision::Any => Ok(None),
        Decision::Own => caller.entity().map(Some).ok_or_else(never),
        Decision::Never => Err(never()),
    }
}

impl Transaction<'_> {
    /// The entity that the caller is confined to, if it is.
    pub(super) fn confined_to(&self) -> Option<&str> {
        self.caller().and_then(Caller::entity)
    }

    /// Whether the caller may do this to something of `owner`; what it may not, it may not. Notes what is done for the audit
    /// log; to be asked before anything is put or deleted.
    ///
    /// `Ok(false)`: it is somebody else's.
    fn authorise(
        &mut self,
        kind: Kind,
        verb: Verb,
        what: &str,
        id: &str,
        owner: Option<&str>,
    ) -> Result<bool> {
        let Some(caller) = self.caller() else { return Ok(true) };
        let own = match decide(&caller.role, kind, verb) {
            Decision::Any => true,
            Decision::Own => owner.is_some_and(|owner| caller.sees(owner)),
            Decision::Never => return Err(never()),
        };
        if own {
            self.note(what, kind, id, owner);
        }
        Ok(own)
    }

    /// Lets the caller make something that is to be `asked`'s, or change what is `found`'s.
    ///
    /// # Errors
    /// [`Error::Refused`]; of what is not the caller's no more is told than that the id is taken, or that there is no such
    /// entity.
    pub(super) fn authorise_put(
        &mut self,
        kind: Kind,
        id: &str,
        found: Option<&str>,
        asked: &str,
    ) -> Result<()> {
        let (what, owner) = found.map_or(("create", asked), |found| ("change", found));
        if self.authorise(kind, Verb::Put, what, id, Some(owner))? {
            return Ok(());
        }
        Err(match found {
            Some(_) => taken(kind, id),
            None => missing("entity", "entity", asked),
        })
    }

    /// Lets the caller change or make something that is no entity's.
    pub(super) fn authorise_plain(&mut self, kind: Kind, id: &str, found: bool) -> Result<()> {
        let what = if found { "change" } else { "create" };
        self.authorise(kind, Verb::Put, what, id, None)?.then_some(()).ok_or_else(never)
    }

    /// Lets the caller begin a move, or take it back.
    pub(super) fn authorise_move(&mut self, id: &str, owner: &str) -> Result<()> {
        self.authorise(Kind::Move, Verb::Put, "move", id, Some(owner))?.then_some(()).ok_or_else(never)
    }

    /// Lets the caller delete what is `owner`'s.
    ///
    /// # Errors
    /// As if it was not there.
    pub(super) fn authorise_delete(&mut self, kind: Kind, id: &str, owner: Option<&str>) -> Result<()> {
        let allowed = self.authorise(kind, Verb::Delete, "delete", id, owner)?;
        allowed.then_some(()).ok_or_else(|| Error::absent(kind.name(), id))
    }

    /// Whether the caller may hear of something, given as `kind/id` like in [`Table::Uses`].
    pub(super) fn may_name(&self, what: &str) -> Result<bool> {
        let Some(entity) = self.confined_to() else { return Ok(true) };
        let (kind, id) = what.split_once('/').unwrap_or((what, ""));
        Ok(match kind {
            "entity" => id == entity,
            "network" => {
                self.load::<NetworkRecord>(Table::Networks, id)?.is_some_and(|is| is.entity == entity)
            }
            "node" => self.load::<NodeRecord>(Table::Nodes, id)?.is_some_and(|is| is.entity == entity),
            "rule" => self.load::<RuleRecord>(Table::Rules, id)?.is_some_and(|is| is.spec.entity == entity),
            "peering" => match self.load::<PeeringRecord>(Table::Peerings, id)? {
                Some(found) => has_part(self.view(), &found.networks, entity)?,
                None => false,
            },
            "token" => self
                .load::<TokenRecord>(Table::Tokens, id)?
                .is_some_and(|is| is.entity.as_deref() == Some(entity)),
            _ => false,
        })
    }

    /// Whose something is, in words: what is not the caller's is not named.
    pub(super) fn named(&self, what: &str, in_words: &str) -> Result<String> {
        Ok(if self.may_name(what)? { in_words.to_owned() } else { "somebody else".to_owned() })
    }

    /// The entity that something is about to be made for.
    pub(super) fn entity(&self, id: &str) -> Result<EntityRecord> {
        self.load(Table::Entities, id)?.ok_or_else(|| missing("entity", "entity", id))
    }
}

/// The refusal of an id that somebody else has.
pub(super) fn taken(kind: Kind, id: &str) -> Error {
    Error::conflict("id", format!("the {} {id} is taken", kind.name()), "an id that is free")
}

/// Whether a write made something.
pub(super) const fn outcome(found: bool) -> Outcome {
    if found { Outcome::Confirmed } else { Outcome::Created }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::ledger::{AuditLimits, Settings};
    use crate::store::RedbStore;
    use overlane_api::access::{Quota, TokenRole, TokenSpec};
    use overlane_api::resource::{EntitySpec, ErrorCode};
    use std::sync::Arc;

    const OPERATOR: Role = Role::Operator;

    fn caller(actor: Actor) -> Caller {
        Caller { actor, role: OPERATOR, source: None }
    }

    fn scratch() -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let quota = Quota { networks: 9, nodes: 9, interfaces: 9, rules: 9, tokens: 9 };
        let audit = AuditLimits { keep: 9, age: 9 };
        let settings =
            Settings { layout: Default::default(), log_revisions: 9, on_demand_above: 9, quota, audit };
        let ledger = Ledger::open(Arc::new(RedbStore::open(&path).unwrap()), &path, settings).unwrap();
        (directory, ledger)
    }

    #[test]
    fn a_change_that_nobody_asked_about_is_not_made() {
        let (_directory, ledger) = scratch();
        let operator = caller(Actor::Certificate("operator".to_owned()));
        let unasked = ledger.by(&operator).write(|txn| txn.put(Table::Entities, b"x", b"{}"));
        assert!(unasked.unwrap_err().to_string().contains("nobody asked"));
        assert_eq!(ledger.view().unwrap().count(Table::Entities).unwrap(), 0);
    }

    #[test]
    fn a_token_that_was_revoked_while_a_request_was_under_way_changes_nothing() {
        let (_directory, ledger) = scratch();
        let operator = caller(Actor::Certificate("operator".to_owned()));
        let spec = |role| TokenSpec { name: String::new(), role, entity: None, expires_in: Some(60) };
        ledger.by(&operator).put_token("ci", &spec(TokenRole::Operator)).unwrap();
        let bearer = caller(Actor::Token("ci".to_owned()));
        let make = |id| ledger.by(&bearer).put_entity(id, &EntitySpec::default()).map(|_| ());
        make("one").unwrap();
        ledger.by(&operator).delete_token("ci").unwrap();
        assert!(
            matches!(make("two"), Err(Error::Refused(detail)) if detail.code == ErrorCode::Unauthenticated)
        );
    }

    #[test]
    fn tokens_are_forgotten_a_while_after_they_have_expired() {
        let (_directory, ledger) = scratch();
        let operator = caller(Actor::Certificate("operator".to_owned()));
        ledger.by(&operator).put_entity("acme", &EntitySpec::default()).unwrap();
        for (id, expires_in) in [("short", Some(60)), ("long", Some(86_400)), ("ever", None)] {
            let entity = Some("acme".to_owned());
            let spec = TokenSpec { name: String::new(), role: TokenRole::Entity, entity, expires_in };
            ledger.by(&operator).put_token(id, &spec).unwrap();
        }
        let later = token::seconds() + 30 * 86_400 + 62;
        assert!(ledger.forget_expired_tokens(later - 60).unwrap().is_empty());
        assert_eq!(ledger.forget_expired_tokens(later).unwrap(), ["short"]);
        crate::ledger::verify(&*ledger.view().unwrap()).unwrap();
    }
}
