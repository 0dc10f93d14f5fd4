//! The one way engine, service and CLI set up mutual TLS: PEM files in, `rustls` configurations out. Cryptography is
//! `ring` everywhere. Who a peer is, is said by the DNS names in its certificate; whether it still is, by the revocation
//! list, where there is one.

mod channel;
mod crl;
mod files;

pub use channel::GRPC_ALPN;
pub use files::FilesState;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, ServerCertVerifierBuilder, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Where a party's TLS files are (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate authorities that peers' certificates must come from.
    pub ca: PathBuf,
    /// This party's certificate, followed by any intermediates.
    pub certificate: PathBuf,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
    /// The revocation lists of those authorities, one or more; without it nothing is ever taken for revoked.
    pub crl: Option<PathBuf>,
}

/// A TLS file or certificate that cannot be used; the message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{}: cannot read it: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file's contents are not what they must be.
    #[error("{}: {problem}", file.display())]
    Contents {
        /// Which file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A peer's certificate cannot be parsed.
    #[error("the peer's certificate cannot be parsed: {0}")]
    Peer(String),
}

/// A party's checked TLS material.
#[derive(Clone)]
pub struct Credentials {
    server: ServerConfig,
    /// The same for clients that may have no certificate.
    open_server: ServerConfig,
    client: ClientConfig,
    clients: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
    validity: Validity,
    lists_until: Option<i64>,
}

/// What is to be said of a client's certificate that was good at its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It would be let in now, too.
    Good,
    /// It is on a revocation list.
    Revoked,
    /// It has run out.
    Expired,
    /// The authorities do not vouch for it any more.
    Untrusted,
    /// The revocation list has run out: it may be good or not.
    Unknown,
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: i64,
    /// The last second.
    pub until: i64,
}

impl Credentials {
    /// Reads and checks the files: they parse, the key is the certificate's, the certificate is valid today, and the
    /// revocation lists are current and come from the authorities.
    ///
    /// A list that has run out is refused, here and at every handshake later: who can keep new lists away must not be able
    /// to keep a revoked certificate alive. A certificate from an authority that has no list here passes.
    ///
    /// # Errors
    /// [`TlsError`] naming the file and what is wrong with it.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let authorities = certificates(&files.ca, &read(&files.ca)?)?;
        let chain = certificates(&files.certificate, &read(&files.certificate)?)?;
        let key_pem = read(&files.key)?;
        let (lists, lists_until) = match &files.crl {
            Some(file) => crl::read(file, &authorities).map(|(lists, until)| (lists, Some(until)))?,
            None => (Vec::new(), None),
        };
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| {
            let problem = match error {
                pem::Error::NoItemsFound => {
                    "no private key in it; it must hold one PEM private key".to_owned()
                }
                other => format!("not a PEM private key: {other}"),
            };
            contents(&files.key, problem)
        })?;

        let provider = Arc::new(ring::default_provider());
        // tonic takes the process's default; the first to set it wins, and all of Overlane sets the same.
        let _ = CryptoProvider::install_default(ring::default_provider());

        let roots = trusted(&files.ca, authorities)?;
        let leaf =
            chain.first().ok_or_else(|| contents(&files.certificate, "no certificate in it".to_owned()))?;
        let (names, validity) = check_own(&files.certificate, leaf)?;

        let verifier = |built: Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError>| {
            built.map_err(|error| contents(&files.ca, error.to_string()))
        };
        let clients = || client_verifier(&roots, &provider, &lists);
        let anybody = verifier(clients().allow_unauthenticated().build())?;
        let clients = verifier(clients().build())?;
        let servers: Arc<dyn ServerCertVerifier> = server_verifier(&roots, &provider, lists)
            .build()
            .map_err(|error| contents(&files.ca, error.to_string()))?;
        let mismatch = |error: rustls::Error| {
            contents(
                &files.key,
                format!("cannot be used with the certificate {}: {error}", files.certificate.display()),
            )
        };
        let versions = |error: rustls::Error| contents(&files.certificate, error.to_string());
        let serve = |clients| {
            ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(versions)?
                .with_client_cert_verifier(clients)
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(mismatch)
        };
        let (mut server, mut open_server) = (serve(clients.clone())?, serve(anybody)?);
        // A session that is taken up again skips the certificates, and with them revocation.
        for server in [&mut server, &mut open_server] {
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
        }
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(versions)?
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(chain, key)
            .map_err(mismatch)?;
        client.resumption = Resumption::disabled();
        Ok(Self { server, open_server, client, clients, names, validity, lists_until })
    }

    /// The DNS names in this party's own certificate: who its peers will take it for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When this party's own certificate is valid.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Until when the revocation lists are good, in seconds since 1970: the first of them to run out; `None` without any.
    #[must_use]
    pub const fn lists_until(&self) -> Option<i64> {
        self.lists_until
    }

    /// What is to be said now of the client that showed `chain` (its own certificate first) at its handshake.
    #[must_use]
    pub fn standing(&self, chain: &[CertificateDer<'_>]) -> Standing {
        let Some((leaf, intermediates)) = chain.split_first() else { return Standing::Untrusted };
        match self.clients.verify_client_cert(leaf, intermediates, UnixTime::now()) {
            Ok(_) => Standing::Good,
            Err(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::Revoked => Standing::Revoked,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Standing::Expired,
                CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. } => Standing::Unknown,
                _ => Standing::Untrusted,
            },
            Err(_) => Standing::Untrusted,
        }
    }

    /// For a TLS server; clients must show a certificate. `alpn` is what it speaks, best first.
    #[must_use]
    pub fn rustls_server(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = self.server.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// The same for clients that may come without a certificate; one that is shown must still be good.
    #[must_use]
    pub fn rustls_open_server(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = self.open_server.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// For a TLS client. `alpn` is what it speaks, best first.
    #[must_use]
    pub fn rustls_client(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

impl std::fmt::Debug for Credentials {
    /// Only the names: the key stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("names", &self.names).finish_non_exhaustive()
    }
}

/// For a TLS client without a certificate of its own, of servers that the authorities in the file `ca` vouch for.
///
/// # Errors
/// [`TlsError`] naming the file and what is wrong with it.
pub fn anonymous_client(ca: &Path, crl: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let authorities = certificates(ca, &read(ca)?)?;
    let lists = crl.map_or(Ok(Vec::new()), |file| crl::read(file, &authorities).map(|(lists, _)| lists))?;
    let provider = Arc::new(ring::default_provider());
    let servers: Arc<dyn ServerCertVerifier> = server_verifier(&trusted(ca, authorities)?, &provider, lists)
        .build()
        .map_err(|error| contents(ca, error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| contents(ca, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(servers)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// For a client that speaks without TLS: whoever speaks TLS to it all the same is refused.
///
/// # Errors
/// Never; [`TlsError::Peer`] if the library cannot be set up.
pub fn trusting_nobody() -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Peer(error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// When a certificate that has been verified already runs out, in seconds since 1970.
///
/// # Errors
/// [`TlsError::Peer`] if it does not parse.
pub fn valid_until(certificate: &[u8]) -> Result<i64, TlsError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| TlsError::Peer(error.to_string()))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// The DNS names in the subject alternative names of a certificate that has been verified already.
///
/// # Errors
/// [`TlsError::Peer`] if it does not parse.
pub fn dns_names(certificate: &[u8]) -> Result<Vec<String>, TlsError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| TlsError::Peer(error.to_string()))?;
    names_of(&certificate).map_err(TlsError::Peer)
}

fn names_of(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let Some(extension) = certificate.subject_alternative_name().map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    let names = extension.value.general_names.iter();
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect())
}

/// A certificate that peers would refuse anyway is better refused at start, by name.
fn check_own(file: &Path, leaf: &CertificateDer<'_>) -> Result<(Vec<String>, Validity), TlsError> {
    let (_, certificate) = X509Certificate::from_der(leaf)
        .map_err(|error| contents(file, format!("not an X.509 certificate: {error}")))?;
    let validity = certificate.validity();
    if !validity.is_valid() {
        let problem = format!("valid only from {} to {}, not today", validity.not_before, validity.not_after);
        return Err(contents(file, problem));
    }
    let names = names_of(&certificate).map_err(|error| contents(file, error))?;
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok((names, Validity { from, until }))
}

/// What every verifier of clients' certificates has in common.
fn client_verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    lists: &[CertificateRevocationListDer<'static>],
) -> ClientCertVerifierBuilder {
    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .with_crls(lists.iter().cloned())
        .allow_unknown_revocation_status()
        .enforce_revocation_expiration()
}

/// What every verifier of servers' certificates has in common.
fn server_verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> ServerCertVerifierBuilder {
    WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .with_crls(lists)
        .allow_unknown_revocation_status()
        .enforce_revocation_expiration()
}

fn trusted(ca: &Path, authorities: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority)
            .map_err(|error| contents(ca, format!("not usable as certificate authority: {error}")))?;
    }
    Ok(Arc::new(roots))
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(contents(file, "no certificate in it; it must hold PEM certificates".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(contents(file, format!("not PEM certificates: {error}"))),
    }
}

fn contents(file: &Path, problem: String) -> TlsError {
    TlsError::Contents { file: file.to_owned(), problem }
}
