//! Revocation lists, checked before anybody relies on them.

use super::{TlsError, contents};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::path::Path;
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, X509Certificate};

/// The lists in `file`, and when the first of them runs out, in seconds since 1970. Each must come from one of `authorities` and not have run out: a list that no verifier would take
/// makes every handshake fail, which is better said at start, by name.
pub(super) fn read(
    file: &Path,
    authorities: &[CertificateDer<'_>],
) -> Result<(Vec<CertificateRevocationListDer<'static>>, i64), TlsError> {
    let pem = super::read(file)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| contents(file, format!("not PEM revocation lists: {error}")))?;
    if lists.is_empty() {
        return Err(contents(file, "no revocation list in it; it must hold PEM X509 CRLs".to_owned()));
    }
    let mut until = i64::MAX;
    for list in &lists {
        until = check(list, authorities).map_err(|problem| contents(file, problem))?.min(until);
    }
    Ok((lists, until))
}

/// Until when it is good, in seconds since 1970.
fn check(list: &CertificateRevocationListDer<'_>, authorities: &[CertificateDer<'_>]) -> Result<i64, String> {
    let (_, list) = CertificateRevocationList::from_der(list)
        .map_err(|error| format!("not an X.509 revocation list: {error}"))?;
    let signed = authorities.iter().any(|authority| {
        X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
            authority.subject() == list.issuer() && list.verify_signature(authority.public_key()).is_ok()
        })
    });
    if !signed {
        return Err(format!("the revocation list of {} is not signed by an authority in ca", list.issuer()));
    }
    match list.next_update() {
        Some(end) if end > ASN1Time::now() => Ok(end.timestamp()),
        Some(end) => Err(format!("the revocation list has run out ({end}); a new one must replace it")),
        None => Err("the revocation list does not say when the next one comes (nextUpdate)".to_owned()),
    }
}
