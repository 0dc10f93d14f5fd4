//! Who asks: a certificate that names an operator, or a token.

use super::{Actor, Caller, Failures, Role};
use crate::api::Peer;
use crate::error::Result;
use crate::ledger::{Ledger, token};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use overlane_api::access::TOKEN_PREFIX;
use parking_lot::Mutex;
use ring::digest;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// Random bytes in a secret.
const SECRET: usize = 32;
/// The same in base64url, as it stands in a token.
const SECRET_TEXT: usize = 43;
/// How many tokens' last use is remembered. A token has 16 bytes of its own here, and its id.
const REMEMBERED: usize = 65_536;

/// What a token's bearer shows, and what is kept of it.
pub(crate) struct MadeSecret {
    /// `ovl_ID_SECRET`, told once.
    pub(crate) text: String,
    /// What is kept.
    pub(crate) hash: [u8; 32],
}

/// Makes a token's secret.
pub(crate) fn make_secret(id: &str) -> Result<MadeSecret> {
    let mut random = [0; SECRET];
    getrandom::fill(&mut random)?;
    let secret = BASE64_URL_SAFE_NO_PAD.encode(random);
    Ok(MadeSecret { text: format!("{TOKEN_PREFIX}{id}_{secret}"), hash: hash_of(&secret) })
}

/// What is kept of a secret. It has 256 bits of entropy and is nobody's choice, so a fast hash without a salt is as good as a
/// slow one: there is nothing to guess.
pub(crate) fn hash_of(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}

/// Takes `ovl_ID_SECRET` apart.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    (overlane_api::resource::is_id(id) && secret.len() == SECRET_TEXT).then_some((id, secret))
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Neither a certificate nor a token.
    Nobody,
    /// The certificate is good, but says nobody who may use the API; these are the names in it.
    NotAnOperator(Vec<String>),
    /// The `Authorization` header is not one of a token's.
    Malformed,
    /// No such token, not its secret, or it has ended: which one is not told.
    BadToken,
    /// Too many failures from where it asks; wait so long.
    TooMany(Duration),
}

/// Knows who may come in.
pub struct Authenticator {
    ledger: Arc<Ledger>,
    operators: Vec<String>,
    /// `None`: there are no certificates, and whoever is on this machine is an operator.
    own_names: Option<Vec<String>>,
    failures: Failures,
    last_used: Mutex<HashMap<String, u64>>,
}

impl Authenticator {
    /// Lets in whoever has a certificate that names one of `operators`, or a token; the service's own certificate
    /// (`own_names`) for backups. Without TLS there are no such names, and everybody without a token is an operator.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, operators: Vec<String>, own_names: Option<Vec<String>>) -> Arc<Self> {
        let last_used = Mutex::new(HashMap::new());
        Arc::new(Self { ledger, operators, own_names, failures: Failures::default(), last_used })
    }

    /// Who is at the other end now: see [`Self::admit_at`].
    ///
    /// # Errors
    /// As there.
    pub fn admit(
        &self,
        peer: &Peer,
        authorization: Option<&[u8]>,
    ) -> Result<std::result::Result<Caller, Refusal>> {
        self.admit_at(peer, authorization, Instant::now(), token::seconds())
    }

    /// Who is at the other end, by certificate and by what stands in the `Authorization` header. A token comes first: whoever
    /// shows one wants to be no more than it says. `time` is in seconds since 1970. Blocks.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`]; whom not to let in is no error.
    pub fn admit_at(
        &self,
        peer: &Peer,
        authorization: Option<&[u8]>,
        now: Instant,
        time: u64,
    ) -> Result<std::result::Result<Caller, Refusal>> {
        let caller = |actor, role| Caller { actor, role, source: peer.source };
        let Some(shown) = authorization else {
            let Some(own_names) = &self.own_names else {
                return Ok(Ok(caller(Actor::Anybody, Role::Operator)));
            };
            let named = |names: &[String]| peer.names.iter().find(|name| names.contains(name)).cloned();
            if let Some(name) = named(&self.operators) {
                return Ok(Ok(caller(Actor::Certificate(name), Role::Operator)));
            }
            if let Some(name) = named(own_names) {
                return Ok(Ok(caller(Actor::Certificate(name), Role::Backup)));
            }
            return Ok(Err(match (peer.certified, self.barred(peer, now)) {
                (true, _) => Refusal::NotAnOperator(peer.names.to_vec()),
                (false, Some(wait)) => Refusal::TooMany(wait),
                (false, None) => self.failed(peer, now, Refusal::Nobody),
            }));
        };
        if let Some(wait) = self.barred(peer, now) {
            return Ok(Err(Refusal::TooMany(wait)));
        }
        let bearer = std::str::from_utf8(shown).ok().and_then(|text| text.split_once(' '));
        let Some((id, secret)) = bearer
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| parts(token.trim()))
        else {
            return Ok(Err(self.failed(peer, now, Refusal::Malformed)));
        };
        let found = token::find(&*self.ledger.view()?, id)?;
        // As much work for an id that is not there as for one that is.
        let kept = found.as_ref().map_or([0; 32], |found| found.hash);
        let matches: bool = hash_of(secret).ct_eq(&kept).into();
        match found {
            Some(found) if matches && found.expires.is_none_or(|expires| time < expires) => {
                self.remember(id, time);
                Ok(Ok(caller(Actor::Token(id.to_owned()), found.role)))
            }
            _ => Ok(Err(self.failed(peer, now, Refusal::BadToken))),
        }
    }

    fn barred(&self, peer: &Peer, now: Instant) -> Option<Duration> {
        self.failures.barred(peer.source?, now)
    }

    fn failed(&self, peer: &Peer, now: Instant, refusal: Refusal) -> Refusal {
        if let Some(source) = peer.source {
            self.failures.note(source, now);
        }
        refusal
    }

    fn remember(&self, id: &str, time: u64) {
        let mut all = self.last_used.lock();
        // Better to know nothing of some than to forget all: whoever is not remembered shows as not used.
        if let Some(last) = all.get_mut(id) {
            *last = time;
        } else if all.len() < REMEMBERED {
            all.insert(id.to_owned(), time);
        }
    }

    /// When a token was last used, in seconds since 1970; `None` if not since the service was started.
    #[must_use]
    pub fn last_used(&self, id: &str) -> Option<u64> {
        self.last_used.lock().get(id).copied()
    }

    /// Forgets a token that is gone.
    pub fn forget(&self, id: &str) {
        self.last_used.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_apart_as_it_was_put_together_and_is_never_the_same() {
        let (one, two) = (make_secret("ci").unwrap(), make_secret("ci").unwrap());
        let (id, secret) = parts(&one.text).unwrap();
        assert_eq!((id, secret.len(), hash_of(secret) == one.hash), ("ci", SECRET_TEXT, true));
        assert_ne!((one.text.as_str(), one.hash), (two.text.as_str(), two.hash));
    }

    #[test]
    fn what_is_no_token_has_no_parts() {
        let secret = "x".repeat(SECRET_TEXT);
        for bad in [
            String::new(),
            "ovl_".to_owned(),
            format!("ovl_{secret}"),
            format!("ovl_A_{secret}"),
            format!("ovl_a_{secret}x"),
            format!("xyz_a_{secret}"),
            format!("ovl__{secret}"),
        ] {
            assert_eq!(parts(&bad), None, "{bad}");
        }
    }
}
