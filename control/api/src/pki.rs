//! A small certificate authority: for the lab, for tests, and for sites that have none.
//!
//! Keys are ECDSA P-256, serial numbers random. Private keys are written with mode 0600. Files are replaced whole or not
//! at all, so that whoever reads them meanwhile finds the old one or the new one.

use crate::tls::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use serde::{Deserialize, Serialize};
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
    /// There is no randomness.
    #[error("no random serial number: {0}")]
    Random(#[from] getrandom::Error),
    /// The authority's own certificate is not what it must be.
    #[error("the authority's certificate: {0}")]
    Authority(String),
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
    /// The last second of its certificate, since 1970.
    not_after: u64,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An engine: a client of the service.
    Host,
    /// The service: a server, and a client of itself when it takes a backup.
    Service,
    /// An operator: a client of the API.
    Operator,
}

impl Kind {
    fn usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            Self::Host | Self::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Self::Service => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

/// The serial number of a certificate: 16 bytes, of which the first is never 0, so that nobody shortens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    fn random() -> Result<Self, PkiError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        // Positive, and of the full length (RFC 5280, 4.1.2.2).
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for Serial {
    /// As 32 hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl std::str::FromStr for Serial {
    type Err = String;

    /// Takes 32 hexadecimal digits, with colons between them or without.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let legal = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = legal.then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
        let bytes = number.map(u128::to_be_bytes).filter(|bytes| bytes[0] != 0);
        bytes.map(Self).ok_or_else(|| "a serial number is 32 hexadecimal digits".to_owned())
    }
}

/// A certificate that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Which.
    pub serial: Serial,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// Its serial number.
    pub serial: Serial,
    /// Its last second, since 1970.
    pub not_after: u64,
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
        Self::new(certificate_pem, key)
    }

    fn new(certificate_pem: String, key: KeyPair) -> Result<Self, PkiError> {
        let parsed = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|error| PkiError::Authority(error.to_string()))?;
        let certificate = parsed.1.parse_x509().map_err(|error| PkiError::Authority(error.to_string()))?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::Authority("ca.key is not its key".to_owned()));
        }
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self { certificate_pem, issuer, not_after })
    }

    /// Reads an authority that [`Authority::save`] wrote: `ca.crt` and `ca.key` in `directory`.
    ///
    /// # Errors
    /// [`PkiError`] naming the file.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let certificate_pem = read(&directory.join("ca.crt"))?;
        let key = KeyPair::from_pem(&read(&directory.join("ca.key"))?)?;
        Self::new(certificate_pem, key)
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

    /// Issues a certificate that serves as client's and as server's, for `names`: DNS names, or IP addresses for a server
    /// that is reached by address.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] for a name that is neither.
    pub fn issue(&self, names: &[&str], lifetime: Duration) -> Result<Issued, PkiError> {
        self.issue_for(Kind::Service, names, lifetime)
    }

    /// Issues a certificate of a kind for `names`, as [`Authority::issue`]. It does not outlive the authority's.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_for(&self, kind: Kind, names: &[&str], lifetime: Duration) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = kind.usages();
        params.use_authority_key_identifier_extension = true;
        let serial = Serial::random()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        let left = Duration::from_secs(self.not_after.saturating_sub(now().as_secs()));
        let lifetime = lifetime.min(left);
        let not_after = set_lifetime(&mut params, lifetime);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { serial, not_after, certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// The list of revoked certificates, as PEM. `number` must be higher than that of every list before; the list is good
    /// for `lifetime`.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] for a lifetime of nothing.
    pub fn revocation_list(
        &self,
        revoked: &[Revoked],
        number: u64,
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        let epoch = date_time_ymd(1970, 1, 1);
        let now = now();
        let revoked_certs = revoked.iter().map(|revoked| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&revoked.serial.0),
            revocation_time: epoch + Duration::from_secs(revoked.at),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: epoch + now.saturating_sub(BACKDATE),
            next_update: epoch + now + lifetime,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
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
            crl: None,
        };
        write(&files.ca, &self.certificate_pem, 0o644)?;
        write(&files.key, &issued.key_pem, 0o600)?;
        write(&files.certificate, &issued.certificate_pem, 0o644)?;
        Ok(files)
    }
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The last second, since 1970.
fn set_lifetime(params: &mut CertificateParams, lifetime: Duration) -> u64 {
    let epoch = date_time_ymd(1970, 1, 1);
    let end = now() + lifetime;
    params.not_before = epoch + now().saturating_sub(BACKDATE);
    params.not_after = epoch + end;
    end.as_secs()
}

fn make_directory(directory: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(directory).map_err(|source| PkiError::File { file: directory.to_owned(), source })
}

fn read(file: &Path) -> Result<String, PkiError> {
    fs::read_to_string(file).map_err(|source| PkiError::File { file: file.to_owned(), source })
}

/// Replaces a file whole, or leaves it as it was; when this returns, the new one outlives a power failure. Two that write
/// the same file at once must exclude each other.
///
/// # Errors
/// [`PkiError::File`] naming the file.
pub fn write(file: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let written = || {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = file.with_file_name(name);
        // One that a crash has left behind may be open to others.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        // Whatever the umask says.
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, file)?;
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|source| PkiError::File { file: file.to_owned(), source })
}
