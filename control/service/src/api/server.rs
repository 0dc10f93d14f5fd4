//! Connections: accepted in bounded number, shaken hands with in bounded time, ended in order.

use crate::credentials::{Keeper, Place};
use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head, also the next one on an idle connection.
const HEAD: Duration = Duration::from_secs(30);
/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// How long to wait when the system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection: the DNS names in its verified certificate. Empty without TLS.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The names.
    pub names: Arc<[String]>,
    /// Whether there is a certificate at all.
    pub certified: bool,
    /// Where it is.
    pub source: Option<IpAddr>,
}

/// What bounds a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long requests under way may take when the listener is shut down.
    pub drain: Duration,
}

/// Serves `router` until `shutdown`, then lets requests under way finish. HTTP/1.1 only: a connection carries one
/// request at a time, so bounding connections bounds requests.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Keeper>>,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => (stream, Some(peer)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let _place = place;
            let ended = match tls {
                None => {
                    let source = peer.map(|peer| peer.ip().to_canonical());
                    connection(stream, Peer { source, ..Peer::default() }, router, watcher).await
                }
                Some(tls) => tokio::select! {
                    hands = handshake(&tls, stream) => match hands {
                        Ok((stream, peer, place)) => tokio::select! {
                            ended = connection(stream, peer, router, watcher) => ended,
                            () = cut(place.as_ref()) => Err("the certificate is good no more".to_owned()),
                        },
                        Err(error) => {
                            tls.refused("api", peer, &error);
                            Err(error.to_string())
                        }
                    },
                    () = shutdown.cancelled() => Ok(()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(error, "connection ended");
            }
        });
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off: they took longer than the shutdown's deadline");
    }
}

/// Waits until the connection is to end; for ever, if it was let in without a certificate.
async fn cut(place: Option<&Place>) {
    match place {
        Some(place) => place.cut().cancelled().await,
        None => std::future::pending().await,
    }
}

async fn handshake(
    tls: &Arc<Keeper>,
    stream: TcpStream,
) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Peer, Option<Place>)> {
    let stream = timeout(HANDSHAKE, tls.api().accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake within 10 s"))??;
    let source = stream.get_ref().0.peer_addr().ok().map(|address| address.ip().to_canonical());
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = match leaf {
        Some(leaf) => overlane_api::tls::dns_names(leaf).map_err(io::Error::other)?,
        None => Vec::new(),
    };
    let certified = leaf.is_some();
    let place = tls.admit(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
    Ok((stream, Peer { names: names.into(), certified, source }, place))
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: Peer,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), String> {
    let service = telling_who_asks(router, peer);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await.map_err(|error| error.to_string())
}

/// The router, with every request told who asks.
fn telling_who_asks(
    router: Router,
    peer: Peer,
) -> impl hyper::service::Service<
    hyper::Request<hyper::body::Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> {
    let inner = TowerToHyperService::new(router);
    hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer.clone());
        hyper::service::Service::call(&inner, request)
    })
}
