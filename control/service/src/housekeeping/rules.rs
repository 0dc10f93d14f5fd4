//! Rules: is there what they are about?

use super::{Housekeeper, VIEWS, inconsistency};
use crate::error::Result;
use crate::events::Occurrence;
use crate::ledger::record::{RuleRecord, decode, pair, text, try_scan};
use crate::store::{Step, Table, View};
use overlane_api::policy::RuleSpec;
use std::time::{Duration, Instant};

const REASON: &str = "rule_without_object";
/// How many records are looked at for one rule, itself included, about.
const RECORDS: usize = 4;

/// A rule, and what it is about that is not there.
struct Found {
    id: String,
    entity: String,
    lacks: String,
}

impl Housekeeper {
    pub(super) fn rules(&mut self, now: Instant) -> Result<()> {
        let limit = (self.pace.page / RECORDS).max(1);
        let ledger = self.ledger.clone();
        for _ in 0..VIEWS {
            let page = {
                let view = ledger.view()?;
                page(&*view, &mut self.rules, limit)?
            };
            for rule in page {
                let detail = format!("rule {} is about {}", rule.id, rule.lacks);
                self.tell(&rule.id, now, Duration::ZERO, || Occurrence {
                    entity: Some(rule.entity),
                    subject: Some(format!("rule/{}", rule.id)),
                    ..inconsistency(REASON, detail)
                });
            }
            if self.rules.is_empty() {
                self.suspects.end_of_round(REASON);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Of the next `limit` rules from `cursor` on those that lack something; `cursor` is empty when there are no more.
fn page(view: &dyn View, cursor: &mut super::Cursor, limit: usize) -> Result<Vec<Found>> {
    let mut rules = Vec::new();
    let (mut next, mut looked) = (super::Cursor::new(), 0);
    try_scan(view, Table::Rules, &[], cursor, |key, value| {
        if looked == limit {
            next = key.to_vec();
            return Ok(Step::Break(()));
        }
        looked += 1;
        let RuleRecord { spec, .. } = decode(Table::Rules, key, value)?;
        if let Some(lacks) = lacks(view, &spec)? {
            rules.push(Found { id: text(Table::Rules, key, key.to_vec())?, entity: spec.entity, lacks });
        }
        Ok(Step::Continue(()))
    })
    .inspect_err(|_| cursor.clear())?;
    *cursor = next;
    Ok(rules)
}

/// The first thing that a rule is about and that is not there.
fn lacks(view: &dyn View, spec: &RuleSpec) -> Result<Option<String>> {
    for selector in [&spec.on, &spec.peer] {
        let named = [
            ("node", Table::Nodes, &selector.node),
            ("network", Table::Networks, &selector.network),
            ("entity", Table::Entities, &selector.entity),
        ];
        for (kind, table, id) in named {
            if let Some(id) = id
                && view.get(table, id.as_bytes())?.is_none()
            {
                return Ok(Some(format!("{kind} {id}, which is not there")));
            }
        }
        if let Some(tag) = &selector.tag {
            let entity = selector.entity.as_ref().unwrap_or(&spec.entity);
            let mut carried = false;
            let nodes = pair(&format!("tag/{entity}/{tag}"), b"node/");
            view.scan(Table::Uses, &nodes, &[], &mut |_, _| {
                carried = true;
                Step::Break(())
            })?;
            if !carried {
                return Ok(Some(format!("tag {tag} of {entity}, which no node carries")));
            }
        }
    }
    Ok(None)
}
