//! API tokens. Of a secret only its hash is kept.

use super::acting::{Acting, outcome};
use super::quota::{self, Of};
use super::record::{TokenRecord, decode, load, text, try_scan};
use super::transaction::Transaction;
use super::{Ledger, Outcome, Result, check};
use crate::access::{Kind, Role, make_secret};
use crate::backup::{from_hex, to_hex};
use crate::error::Error;
use crate::store::{Step, Table, View};
use overlane_api::access::{MAX_EXPIRES_IN, MIN_EXPIRES_IN, Token, TokenRole, TokenSpec};
use std::time::SystemTime;

/// Random bytes in the id of a token that was given none.
const RANDOM_ID: usize = 8;

/// For how long an expired token is still shown as such, in seconds.
const REMEMBERED: u64 = 30 * 86_400;
/// How many are forgotten in one change.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// The time, in seconds since 1970.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What is needed to know a token's bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) role: Role,
    /// Of its secret.
    pub(crate) hash: [u8; 32],
    /// When it ends, in seconds since 1970.
    pub(crate) expires: Option<u64>,
}

fn expires(record: &TokenRecord) -> Option<u64> {
    record.expires_in.map(|after| record.created.saturating_add(after))
}

/// The token with an id, if there is one.
pub(crate) fn find(view: &dyn View, id: &str) -> Result<Option<Found>> {
    load(view, Table::Tokens, id)?.map(|record| known(id, &record)).transpose()
}

/// What a token's record says.
pub(super) fn known(id: &str, record: &TokenRecord) -> Result<Found> {
    let wrong = |problem: &str| Error::Record { key: format!("Tokens/{id}"), problem: problem.to_owned() };
    let hash = from_hex(&record.hash).and_then(|hash| hash.try_into().ok());
    let role = match (record.role, &record.entity) {
        (TokenRole::Operator, None) => Role::Operator,
        (TokenRole::Entity, Some(entity)) => Role::Entity(entity.clone()),
        _ => return Err(wrong("role and entity contradict each other")),
    };
    let hash = hash.ok_or_else(|| wrong("its hash is not 32 bytes in hexadecimal"))?;
    Ok(Found { role, hash, expires: expires(record) })
}

/// A token as it is told; when it was last used is not known here.
pub(super) fn resource(id: &str, record: TokenRecord) -> Token {
    let expires = expires(&record);
    Token {
        id: id.to_owned(),
        name: record.name,
        role: record.role,
        entity: record.entity,
        created: record.created,
        expires,
        expired: expires.is_some_and(|expires| expires <= seconds()),
        last_used: None,
        secret: None,
        revision: record.revision,
    }
}

/// A token.
pub(crate) fn read(view: &dyn View, id: &str) -> Result<Token> {
    let record = load(view, Table::Tokens, id)?.ok_or_else(|| Error::absent("token", id))?;
    Ok(resource(id, record))
}

fn check_spec(spec: &TokenSpec) -> Result<()> {
    check::text("name", &spec.name)?;
    match (spec.role, &spec.entity) {
        (TokenRole::Operator, None) => {}
        (TokenRole::Entity, Some(entity)) => check::id("entity", entity)?,
        (TokenRole::Operator, Some(entity)) => {
            return Err(Error::invalid("entity", format!("{entity:.64?} is given for an operator"), "none"));
        }
        (TokenRole::Entity, None) => {
            return Err(Error::invalid("entity", "it is missing", "with the role entity the id of one"));
        }
    }
    match spec.expires_in {
        Some(after) if !(MIN_EXPIRES_IN..=MAX_EXPIRES_IN).contains(&after) => Err(Error::invalid(
            "expires_in",
            format!("{after} is out of range"),
            format!("{MIN_EXPIRES_IN} to {MAX_EXPIRES_IN} seconds, or none"),
        )),
        _ => Ok(()),
    }
}

/// What of a token cannot change.
fn check_fixed(id: &str, found: &TokenRecord, spec: &TokenSpec) -> Result<()> {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let pairs = [
        ("role", Some(found.role.name().to_owned()), Some(spec.role.name().to_owned())),
        ("entity", found.entity.clone(), spec.entity.clone()),
        ("expires_in", found.expires_in.map(|s| s.to_string()), spec.expires_in.map(|s| s.to_string())),
    ];
    for (field, is, asked) in pairs {
        if is != asked {
            let is = shown(is);
            let message = format!("token {id} has {is}; that cannot change: make another token");
            return Err(Error::conflict(field, message, is));
        }
    }
    Ok(())
}

impl Acting<'_> {
    /// Makes a token with an id of the service's choice. The answer alone holds its secret.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn make_token(&self, spec: &TokenSpec) -> Result<Token> {
        let mut random = [0; RANDOM_ID];
        getrandom::fill(&mut random)?;
        // With 64 random bits nobody has it.
        self.put_token(&format!("t{}", to_hex(&random)), spec).map(|(_, token)| token)
    }

    /// Makes a token, and then its answer alone holds its secret; or confirms it, perhaps with another name.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_token(&self, id: &str, spec: &TokenSpec) -> Result<(Outcome, Token)> {
        check::id("id", id)?;
        check_spec(spec)?;
        self.write(|txn| {
            let found: Option<TokenRecord> = txn.load(Table::Tokens, id)?;
            match (&spec.entity, &found) {
                (Some(asked), found) => {
                    let owner = found.as_ref().map(|found| found.entity.as_deref().unwrap_or_default());
                    txn.authorise_put(Kind::Token, id, owner.filter(|owner| !owner.is_empty()), asked)?;
                }
                (None, found) => txn.authorise_plain(Kind::Token, id, found.is_some())?,
            }
            if let Some(found) = found {
                check_fixed(id, &found, spec)?;
                if found.name == spec.name {
                    return Ok((Outcome::Confirmed, resource(id, found)));
                }
                let record =
                    TokenRecord { name: spec.name.clone(), revision: txn.revision(), ..found.clone() };
                txn.save(Table::Tokens, id, &record)?;
                let (before, after) = (resource(id, found), resource(id, record));
                txn.summarise(Some(&before), Some(&after));
                return Ok((Outcome::Confirmed, after));
            }
            if let Some(entity) = &spec.entity {
                txn.entity(entity)?;
                quota::count(txn, entity, Of::Tokens, 1)?;
                txn.add_use(&format!("entity/{entity}"), &format!("token/{id}"))?;
            }
            let secret = make_secret(id)?;
            let record = TokenRecord {
                name: spec.name.clone(),
                role: spec.role,
                entity: spec.entity.clone(),
                expires_in: spec.expires_in,
                created: seconds(),
                hash: to_hex(&secret.hash),
                revision: txn.revision(),
            };
            txn.save(Table::Tokens, id, &record)?;
            let token = resource(id, record);
            txn.summarise(None, Some(&token));
            Ok((outcome(false), Token { secret: Some(secret.text), ..token }))
        })
    }

    /// Revokes a token: from now on it is good for nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there.
    pub fn delete_token(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            let found: TokenRecord =
                txn.load(Table::Tokens, id)?.ok_or_else(|| Error::absent("token", id))?;
            txn.authorise_delete(Kind::Token, id, found.entity.as_deref())?;
            remove(txn, id, &found)
        })
    }
}

fn remove(txn: &mut Transaction<'_>, id: &str, found: &TokenRecord) -> Result<()> {
    if let Some(entity) = &found.entity {
        quota::count(txn, entity, Of::Tokens, -1)?;
        txn.drop_use(&format!("entity/{entity}"), &format!("token/{id}"))?;
    }
    txn.delete(Table::Tokens, id.as_bytes())
}

impl Ledger {
    /// Forgets tokens that expired more than 30 days before `time` (in seconds since 1970), up to 1000 of them; which ones.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn forget_expired_tokens(&self, time: u64) -> Result<Vec<String>> {
        let is_due = |record: &TokenRecord| {
            expires(record).is_some_and(|expires| expires.saturating_add(REMEMBERED) < time)
        };
        let mut due = Vec::new();
        try_scan(&*self.view()?, Table::Tokens, &[], &[], |key, value| {
            let record: TokenRecord = decode(Table::Tokens, key, value)?;
            if is_due(&record) {
                due.push(text(Table::Tokens, key, key.to_vec())?);
            }
            Ok(if due.len() < FORGOTTEN_AT_ONCE { Step::Continue(()) } else { Step::Break(()) })
        })?;
        if due.is_empty() {
            return Ok(due);
        }
        self.write(|txn| {
            for id in &due {
                // It may have been deleted, and made again, since we looked.
                if let Some(record) = txn.load::<TokenRecord>(Table::Tokens, id)?.filter(is_due) {
                    remove(txn, id, &record)?;
                }
            }
            Ok(())
        })?;
        Ok(due)
    }
}
