//! Connections of engines: accepted, and shaken hands with in bounded number and time.
//!
//! tonic could do this itself, but its TLS knows no revocation lists.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// How long an engine may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait to be accepted.
const HANDSHAKES: usize = 256;
/// How long to wait when the system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The connections that `listener` takes until `shutdown`, each after its handshake.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: TlsAcceptor,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (ready, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        tokio::select! {
            () = accept(&listener, &tls, &ready) => {}
            () = shutdown.cancelled() => {}
            () = ready.closed() => {}
        }
    });
    ReceiverStream::new(connections)
}

async fn accept(
    listener: &TcpListener,
    tls: &TlsAcceptor,
    ready: &mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an engine's connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            let hands = async {
                stream.set_nodelay(true)?;
                tls.accept(stream).await
            };
            match timeout(HANDSHAKE, hands).await {
                // Nobody takes it when the server is gone, which then is no loss.
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                Ok(Err(error)) => tracing::warn!(%peer, %error, "no TLS with an engine"),
                Err(_) => tracing::debug!(%peer, "no TLS handshake within {} s", HANDSHAKE.as_secs()),
            }
        });
    }
}
