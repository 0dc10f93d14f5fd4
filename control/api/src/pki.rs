//! A small certificate authority: for the lab, for tests, and for sites that have none.
//!
//! Keys are ECDSA P-256. Certificates serve both as client's and as server's. Private keys are written with mode
//! 0600.

use crate::tls::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an authority made here is valid: ten years.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
/// How long certificates are valid unless told otherwise: one year.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// Clocks differ: certificates are valid from an hour before they were made.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Why a certificate could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Making or parsing failed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A certificate authority.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when there is no randomness.
    pub fn generate(common_name: &str) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        // It issues end certificates only.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_lifetime(&mut params, AUTHORITY_LIFETIME);
        let certificate_pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Reads an authority that [`Authority::save`] wrote: `ca.crt` and `ca.key` in `directory`.
    ///
    /// # Errors
    /// [`PkiError`] naming the file.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let certificate_pem = read(&directory.join("ca.crt"))?;
        let key = KeyPair::from_pem(&read(&directory.join("ca.key"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Writes `ca.crt` and `ca.key` into `directory`, which is made if absent.
    ///
    /// # Errors
    /// [`PkiError`] naming the file.
    pub fn save(&self, directory: &Path) -> Result<(), PkiError> {
        make_directory(directory)?;
        write(&directory.join("ca.key"), &self.issuer.key().serialize_pem(), 0o600)?;
        write(&directory.join("ca.crt"), &self.certificate_pem, 0o644)
    }

    /// The authority's certificate, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate for `names`: DNS names, or IP addresses for a server that is reached by address.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] for a name that is neither.
    pub fn issue(&self, names: &[&str], lifetime: Duration) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_lifetime(&mut params, lifetime);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Issues a certificate for `names` and writes all that its owner needs into `directory` (made if absent):
    /// `ca.crt`, `<stem>.crt` and `<stem>.key`.
    ///
    /// # Errors
    /// [`PkiError`] naming the file, or for a bad name.
    pub fn provision(&self, directory: &Path, stem: &str, names: &[&str]) -> Result<TlsFiles, PkiError> {
        let issued = self.issue(names, CERTIFICATE_LIFETIME)?;
        make_directory(directory)?;
        let files = TlsFiles {
            ca: directory.join("ca.crt"),
            certificate: directory.join(format!("{stem}.crt")),
            key: directory.join(format!("{stem}.key")),
        };
        write(&files.ca, &self.certificate_pem, 0o644)?;
        write(&files.certificate, &issued.certificate_pem, 0o644)?;
        write(&files.key, &issued.key_pem, 0o600)?;
        Ok(files)
    }
}

fn set_lifetime(params: &mut CertificateParams, lifetime: Duration) {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = date_time_ymd(1970, 1, 1) + since_epoch;
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
}

fn make_directory(directory: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(directory).map_err(|source| PkiError::File { file: directory.to_owned(), source })
}

fn read(file: &Path) -> Result<String, PkiError> {
    fs::read_to_string(file).map_err(|source| PkiError::File { file: file.to_owned(), source })
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let written = || {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(file)?;
        // The mode above holds for new files only.
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(text.as_bytes())
    };
    written().map_err(|source| PkiError::File { file: file.to_owned(), source })
}
