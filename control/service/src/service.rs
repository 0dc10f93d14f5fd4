//! The service as a whole: started, running, shut down.

use crate::access::Authenticator;
use crate::api::{self, Api, Limits};
use crate::config::Config;
use crate::credentials::Keeper;
use crate::events::Events;
use crate::housekeeping::Housekeeper;
use crate::ledger::Ledger;
use crate::mover::Mover;
use crate::store::RedbStore;
use crate::sync::{Hub, SyncService, incoming};
use crate::telemetry::{self, Metrics, Observed};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// How often an idle stream is probed, and how long the answer may take: an engine that is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls of one engine at once: its stream and its resolutions.
const CALLS_PER_ENGINE: u32 = 64;
/// How often tokens that expired long ago are forgotten.
const TOKENS_EVERY: Duration = Duration::from_secs(3600);
/// Connections to the telemetry listener at once.
const TELEMETRY_CONNECTIONS: usize = 16;

/// A running service.
pub struct Service {
    ledger: Arc<Ledger>,
    keeper: Option<Arc<Keeper>>,
    api: SocketAddr,
    sync: SocketAddr,
    telemetry: Option<SocketAddr>,
    shutdown: CancellationToken,
    deadline: Duration,
    parts: JoinSet<Result<&'static str>>,
}

impl Service {
    /// Opens the store, loads the certificates, listens. On return it is ready.
    ///
    /// # Errors
    /// Whatever keeps it from running, naming the file or the address.
    pub async fn start(config: &Config) -> Result<Self> {
        let metrics = Metrics::new();
        let (files, counted) = (config.tls.clone(), metrics.clone());
        let keeper =
            tokio::task::spawn_blocking(move || files.map(|files| Keeper::load(files, counted)).transpose());
        let keeper = keeper.await??;
        if keeper.is_none() {
            tracing::warn!(
                "[tls] insecure = true: whoever is on this machine is an operator, and any engine"
            );
        }
        let (path, settings) = (config.store.clone(), config.settings);
        let ledger = tokio::task::spawn_blocking(move || {
            let store = RedbStore::open(&path)?;
            Ledger::open(Arc::new(store), &path, settings)
        })
        .await??;
        let ledger = Arc::new(ledger);
        let shutdown = CancellationToken::new();
        let (kept, counted, remembered) = (ledger.clone(), metrics.clone(), config.events);
        let events = tokio::task::spawn_blocking(move || Events::open(kept, counted, remembered)).await??;
        let hub = Hub::new(ledger.clone());
        let mover = Mover::new(ledger.clone(), hub.clone(), config.pace);
        let mut parts: JoinSet<Result<&'static str>> = JoinSet::new();

        let listener = listen(config.sync, "[sync] listen").await?;
        let sync = listener.local_addr()?;
        let service =
            SyncService::new(ledger.clone(), hub.clone(), events.clone(), metrics.clone(), shutdown.clone());
        let service = if keeper.is_none() { service.insecure() } else { service };
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(CALLS_PER_ENGINE);
        let (tls, token) = (keeper.clone(), shutdown.clone());
        parts.spawn(async move {
            let server = server.add_service(service.into_server());
            match tls {
                Some(tls) => {
                    let incoming = incoming(listener, tls, token.clone());
                    server.serve_with_incoming_shutdown(incoming, token.cancelled_owned()).await?;
                }
                None => {
                    let incoming = TcpListenerStream::new(listener);
                    server.serve_with_incoming_shutdown(incoming, token.cancelled_owned()).await?;
                }
            }
            Ok("sync listener")
        });

        let listener = listen(config.api, "[api] listen").await?;
        let api = listener.local_addr()?;
        let operators = config.operators.clone();
        let names = keeper.as_ref().map(|keeper| keeper.names());
        let authenticator = Authenticator::new(ledger.clone(), operators, names);
        let router = api::router(Api {
            ledger: ledger.clone(),
            hub: hub.clone(),
            mover: mover.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            authenticator: authenticator.clone(),
            warnings: Arc::default(),
        });
        let (kept, token) = (ledger.clone(), shutdown.clone());
        parts.spawn(async move {
            forget_tokens(kept, authenticator, token).await;
            Ok("keeper of tokens")
        });
        let tls = keeper.clone();
        let limits = Limits { connections: config.api_connections, drain: config.shutdown_deadline };
        let token = shutdown.clone();
        parts.spawn(async move {
            api::serve(listener, tls, router, limits, token).await;
            Ok("API listener")
        });

        let mut observed_at = None;
        if let Some(address) = config.telemetry {
            let listener = listen(address, "[telemetry] listen").await?;
            observed_at = Some(listener.local_addr()?);
            let router = telemetry::router(Observed {
                metrics,
                ledger: ledger.clone(),
                hub: hub.clone(),
                mover: mover.clone(),
                shutdown: shutdown.clone(),
            });
            let limits = Limits { connections: TELEMETRY_CONNECTIONS, drain: Duration::from_secs(1) };
            let token = shutdown.clone();
            parts.spawn(async move {
                api::serve(listener, None, router, limits, token).await;
                Ok("telemetry listener")
            });
        }

        let housekeeper =
            Housekeeper::new(ledger.clone(), hub.clone(), mover.clone(), events.clone(), config.housekeeping);
        let token = shutdown.clone();
        parts.spawn(async move {
            housekeeper.run(token).await;
            Ok("housekeeping")
        });
        let token = shutdown.clone();
        parts.spawn(async move {
            events.run(token).await;
            Ok("writer of events")
        });
        if let Some(kept) = keeper.clone() {
            let token = shutdown.clone();
            parts.spawn(async move {
                kept.run(token).await;
                Ok("keeper of certificates")
            });
        }
        let token = shutdown.clone();
        parts.spawn(async move {
            mover.run(token).await;
            Ok("mover")
        });
        tracing::info!(%api, %sync, revision = *ledger.revisions().borrow(), "ready");
        Ok(Self {
            ledger,
            keeper,
            api,
            sync,
            telemetry: observed_at,
            shutdown,
            deadline: config.shutdown_deadline,
            parts,
        })
    }

    /// Where the HTTP API listens.
    #[must_use]
    pub const fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// Where the sync protocol listens.
    #[must_use]
    pub const fn sync_address(&self) -> SocketAddr {
        self.sync
    }

    /// Where metrics and health are shown.
    #[must_use]
    pub const fn telemetry_address(&self) -> Option<SocketAddr> {
        self.telemetry
    }

    /// What is provisioned.
    #[must_use]
    pub const fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Reads certificates and revocation lists anew, if they have changed; it does so by itself every two seconds.
    pub fn reload(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.reload();
        }
    }

    /// Returns when a part has failed that must not.
    ///
    /// # Errors
    /// Always: the failure.
    pub async fn failed(&mut self) -> Result<()> {
        match self.parts.join_next().await {
            Some(Ok(Ok(part))) => anyhow::bail!("the {part} ended by itself"),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(error.into()),
            None => anyhow::bail!("nothing is running"),
        }
    }

    /// Ends streams, lets requests under way finish, and releases the store; at the deadline what is left is cut off.
    ///
    /// # Errors
    /// If the deadline passed.
    pub async fn shut_down(self) -> Result<()> {
        let Self { ledger, shutdown, deadline, mut parts, .. } = self;
        shutdown.cancel();
        let released = ledger.released();
        drop(ledger);
        let ended = tokio::time::timeout(deadline, async {
            while let Some(part) = parts.join_next().await {
                match part {
                    Ok(Ok(part)) => tracing::debug!(part, "ended"),
                    Ok(Err(error)) => tracing::warn!(%error, "ended"),
                    Err(error) => tracing::warn!(%error, "ended"),
                }
            }
            // Streams and requests that were cut off let go of the store a little later.
            released.wait().await;
        });
        ended.await.context("not everything ended before the shutdown's deadline")
    }
}

/// Forgets tokens that expired long ago, now and then, until `shutdown`.
async fn forget_tokens(ledger: Arc<Ledger>, authenticator: Arc<Authenticator>, shutdown: CancellationToken) {
    let mut turns = tokio::time::interval(TOKENS_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = turns.tick() => {}
        }
        let ledger = ledger.clone();
        let forgotten =
            tokio::task::spawn_blocking(move || ledger.forget_expired_tokens(crate::ledger::seconds())).await;
        match forgotten {
            Ok(Ok(ids)) => {
                ids.iter().for_each(|id| authenticator.forget(id));
                if !ids.is_empty() {
                    tracing::info!(tokens = ids.len(), "expired tokens were forgotten");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "expired tokens cannot be forgotten"),
            Err(error) => tracing::error!(%error, "expired tokens cannot be forgotten"),
        }
    }
}

async fn listen(address: SocketAddr, field: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{field} = \"{address}\": cannot listen there"))
}
