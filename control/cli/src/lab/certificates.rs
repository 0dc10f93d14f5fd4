//! Certificates of the lab's authority while the lab is up: issued, put in place, revoked.

use super::handle::Lab;
use anyhow::Result;
use overlane_api::pki::{Authority, Issued, Revoked, Serial};
use overlane_api::tls::TlsFiles;
use std::path::PathBuf;
use std::time::Duration;

/// How long the lab's revocation lists are good for: longer than any lab.
pub(super) const LIST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A file of the lab's certificates.
#[must_use]
pub fn file(lab: &Lab, name: &str) -> PathBuf {
    lab.state().file(&format!("pki/{name}"))
}

/// The lab's authority.
///
/// # Errors
/// If its files cannot be read.
pub fn authority(lab: &Lab) -> Result<Authority> {
    Ok(Authority::load(&lab.state().file("pki"))?)
}

/// Puts a certificate and its key where those of `name` are; whoever uses them there takes notice by itself.
///
/// # Errors
/// If a file cannot be written.
pub fn place(lab: &Lab, name: &str, issued: &Issued) -> Result<TlsFiles> {
    let certificate = lab.state().write(&format!("pki/{name}.crt"), &issued.certificate_pem)?;
    let key = lab.state().write_secret(&format!("pki/{name}.key"), &issued.key_pem)?;
    Ok(TlsFiles { ca: file(lab, "ca.crt"), certificate, key, crl: None })
}

/// Makes these the revoked ones. `number` must be higher than that of every list before; the lab begins with 1.
///
/// # Errors
/// If the list cannot be written.
pub fn revoke(lab: &Lab, number: u64, serials: &[Serial]) -> Result<()> {
    let revoked: Vec<_> = serials.iter().map(|serial| Revoked { serial: *serial, at: 1 }).collect();
    let list = authority(lab)?.revocation_list(&revoked, number, LIST)?;
    // In the old one's place at once: the service may look at any moment.
    Ok(std::fs::rename(lab.state().write("pki/new.crl", &list)?, file(lab, "ca.crl"))?)
}
