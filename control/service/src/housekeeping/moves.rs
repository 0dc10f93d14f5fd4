//! Moves: do they go on?

use super::{Housekeeper, VIEWS, inconsistency};
use crate::error::Result;
use crate::events::Occurrence;
use crate::ledger::moving;
use std::time::{Duration, Instant};

const REASON: &str = "move_stuck";
/// How many records a move is made of, about.
const RECORDS: usize = 8;

impl Housekeeper {
    pub(super) fn moves(&mut self, now: Instant) -> Result<()> {
        let limit = (self.pace.page / RECORDS).max(1);
        let ledger = self.ledger.clone();
        for _ in 0..VIEWS {
            let after = String::from_utf8_lossy(&self.moves).into_owned();
            let page = {
                let view = ledger.view()?;
                moving::active(&*view, &after, limit)?
            };
            self.moves = match page.last() {
                Some(last) if page.len() == limit => last.node.as_bytes().to_vec(),
                _ => super::Cursor::new(),
            };
            for active in page {
                let Some(waits_for) = self.mover.stuck(&active) else { continue };
                let detail = format!(
                    "the move of {} to {} is stuck in its phase {:?}: it waits for {waits_for}",
                    active.node, active.to, active.phase
                );
                let (entity, vnet) = (self.entity_of(&active.node), active.vnets.first().copied());
                self.tell(&active.node, now, Duration::ZERO, || Occurrence {
                    entity,
                    vnet,
                    subject: Some(format!("node/{}", active.node)),
                    ..inconsistency(REASON, crate::ledger::clipped(&detail))
                });
            }
            if self.moves.is_empty() {
                self.suspects.end_of_round(REASON);
                return Ok(());
            }
        }
        Ok(())
    }
}
