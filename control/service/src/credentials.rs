//! The service's certificate and what it trusts, read again whenever the files change; and the connections that were let in
//! by them, cut when they would not be let in any more.
//!
//! ```text
//!  files ──poll, SIGHUP──► load ──► new handshakes use it
//!                           └────► every open connection's certificate is verified again ──► cut
//!  time ──────────────────────────► whose certificate has run out ────────────────────────► cut
//! ```
//! Established connections are not touched by anything else: renewed certificates cost nobody a stream. A revocation list
//! that has run out lets nobody in any more, but proves nobody revoked, so it cuts nobody either.

use crate::access::Warnings;
use crate::telemetry::{CutLabels, HandshakeLabels, Metrics, ReloadLabels};
use overlane_api::tls::{Credentials, FilesState, GRPC_ALPN, Standing, TlsError, TlsFiles, valid_until};
use parking_lot::{Mutex, RwLock};
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, CertificateError};
use tokio_util::sync::CancellationToken;

/// How often the files, and the validity of connections' certificates, are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How often it is said that something runs out soon.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A certificate that runs out so soon is told of, in seconds; of one with a shorter life its last third is.
const WARN_BEFORE: i64 = 7 * 24 * 3600;
/// The same of a revocation list, which is often made for a day.
const WARN_OF_LIST: i64 = 8 * 3600;

/// What was read last.
struct Current {
    credentials: Credentials,
    engines: TlsAcceptor,
    api: TlsAcceptor,
}

impl Current {
    fn new(credentials: Credentials) -> Self {
        let engines = TlsAcceptor::from(credentials.rustls_server(GRPC_ALPN));
        let api = TlsAcceptor::from(credentials.rustls_open_server(&[b"http/1.1"]));
        Self { credentials, engines, api }
    }
}

/// A connection that was let in by a certificate.
struct Admitted {
    chain: Vec<CertificateDer<'static>>,
    /// When the certificate runs out, in seconds since 1970.
    until: i64,
    cut: CancellationToken,
}

/// Keeps the service's TLS files in force, and its connections in step with them.
pub struct Keeper {
    files: TlsFiles,
    metrics: Arc<Metrics>,
    current: RwLock<Arc<Current>>,
    /// The state of the files that was tried last, whether they could be used or not.
    tried: Mutex<FilesState>,
    connections: Mutex<HashMap<u64, Admitted>>,
    next: AtomicU64,
    asked: Notify,
    warnings: Warnings,
}

/// A connection's place among those that can be cut; given back when the connection ends.
pub(crate) struct Place {
    keeper: Arc<Keeper>,
    number: u64,
    cut: CancellationToken,
}

impl Place {
    /// Cancelled when the connection is to end.
    pub(crate) const fn cut(&self) -> &CancellationToken {
        &self.cut
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeper.connections.lock().remove(&self.number);
    }
}

/// What was wrong with the client's certificate.
fn reason(error: &io::Error) -> &'static str {
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match found {
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::Revoked => "revoked",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => "list_expired",
            _ => "untrusted",
        },
        _ => "other",
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

impl Keeper {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] naming the file and what is wrong with it.
    pub fn load(files: TlsFiles, metrics: Arc<Metrics>) -> Result<Arc<Self>, TlsError> {
        let tried = Mutex::new(files.state());
        let current = RwLock::new(Arc::new(Current::new(Credentials::load(&files)?)));
        let keeper = Self {
            files,
            metrics,
            current,
            tried,
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            asked: Notify::new(),
            warnings: Warnings::default(),
        };
        keeper.tell();
        Ok(Arc::new(keeper))
    }

    /// The DNS names in the service's certificate.
    pub fn names(&self) -> Vec<String> {
        self.current.read().credentials.names().to_vec()
    }

    /// For an engine's handshake: it must show a certificate.
    pub(crate) fn engines(&self) -> TlsAcceptor {
        self.current.read().engines.clone()
    }

    /// For the handshake of a client of the API, which may have none.
    pub(crate) fn api(&self) -> TlsAcceptor {
        self.current.read().api.clone()
    }

    /// Has the files looked at now.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    /// Takes note of a connection by the certificates that its client has shown, if it has any.
    ///
    /// # Errors
    /// [`TlsError::Peer`] if they do not parse.
    pub(crate) fn admit(
        self: &Arc<Self>,
        shown: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<Place>, TlsError> {
        let Some((leaf, _)) = shown.and_then(<[_]>::split_first) else { return Ok(None) };
        let chain: Vec<_> = shown.unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect();
        let (until, cut) = (valid_until(leaf)?, CancellationToken::new());
        let number = self.next.fetch_add(1, Relaxed);
        self.connections.lock().insert(number, Admitted { chain: chain.clone(), until, cut: cut.clone() });
        let place = Place { keeper: self.clone(), number, cut };
        // It may have been revoked since the handshake: a list that is read from now on finds the connection, and one that was
        // read before is in force here.
        let standing = self.current.read().credentials.standing(&chain);
        self.judge(number, standing);
        Ok(Some(place))
    }

    /// Counts a handshake that came to nothing, and logs it unless there were just some.
    pub(crate) fn refused(&self, listener: &'static str, peer: Option<SocketAddr>, error: &io::Error) {
        let reason = reason(error);
        self.metrics.handshakes_refused.get_or_create(&HandshakeLabels { listener, reason }).inc();
        if let Some(more) = self.warnings.due(std::time::Instant::now()) {
            tracing::warn!(listener, ?peer, reason, more_not_logged = more, %error, "no TLS with a client");
        }
    }

    /// Cuts a connection that would not be let in.
    fn judge(&self, number: u64, standing: Standing) {
        let reason = match standing {
            Standing::Good | Standing::Unknown => return,
            Standing::Revoked => "revoked",
            Standing::Expired => "expired",
            Standing::Untrusted => "untrusted",
        };
        let Some(admitted) = self.connections.lock().remove(&number) else { return };
        admitted.cut.cancel();
        self.metrics.connections_cut.get_or_create(&CutLabels { reason }).inc();
        let names = admitted.chain.first().and_then(|leaf| overlane_api::tls::dns_names(leaf).ok());
        tracing::warn!(reason, names = ?names.unwrap_or_default(), "a connection is cut: its certificate is good no more");
    }

    /// Reads the files if they have changed since they were read last.
    fn refresh(&self) {
        let state = self.files.state();
        if std::mem::replace(&mut *self.tried.lock(), state.clone()) == state {
            return;
        }
        match Credentials::load(&self.files) {
            Ok(credentials) => {
                let current = Arc::new(Current::new(credentials));
                *self.current.write() = current.clone();
                self.metrics.tls_reloads.get_or_create(&ReloadLabels { outcome: "loaded" }).inc();
                tracing::info!(names = ?current.credentials.names(), "certificates and lists are read anew");
                let connections = self.connections.lock();
                let chains: Vec<_> =
                    connections.iter().map(|(number, admitted)| (*number, admitted.chain.clone())).collect();
                drop(connections);
                for (number, chain) in chains {
                    self.judge(number, current.credentials.standing(&chain));
                }
            }
            Err(error) => {
                self.metrics.tls_reloads.get_or_create(&ReloadLabels { outcome: "failed" }).inc();
                tracing::error!(%error, "changed certificates or lists cannot be used; those before stay in force");
            }
        }
    }

    /// Cuts connections whose certificates have run out.
    fn expire(&self) {
        let now = now();
        let connections = self.connections.lock();
        let over: Vec<u64> = connections
            .iter()
            .filter(|(_, admitted)| admitted.until < now)
            .map(|(number, _)| *number)
            .collect();
        drop(connections);
        over.into_iter().for_each(|number| self.judge(number, Standing::Expired));
    }

    /// Shows when certificate and lists run out; whether that is soon.
    fn tell(&self) -> Option<&'static str> {
        let current = self.current.read().clone();
        let validity = current.credentials.validity();
        let left = validity.until - now();
        self.metrics.certificate_expires.set(left);
        let soon = WARN_BEFORE.min((validity.until - validity.from) / 3);
        let lists = current.credentials.lists_until().map(|until| until - now());
        if let Some(lists) = lists {
            self.metrics.revocation_list_expires.set(lists);
        }
        if left < soon {
            return Some("the service's certificate runs out soon: nobody will talk to it then");
        }
        lists.filter(|left| *left < WARN_OF_LIST).map(|_| {
            "the revocation list runs out soon: nobody will be let in then (`overlane pki crl` makes another)"
        })
    }

    /// Keeps files and connections in step until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut due = tokio::time::interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warned: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => {}
                () = self.asked.notified() => {}
            }
            let keeper = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                keeper.refresh();
                keeper.expire();
                keeper.tell()
            });
            match looked.await {
                Ok(Some(soon)) if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) => {
                    warned = Some(Instant::now());
                    tracing::warn!("{soon}");
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the keeper of certificates failed"),
            }
        }
    }
}
