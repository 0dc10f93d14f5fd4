//! Connections of engines: accepted, and shaken hands with in bounded number and time.
//!
//! tonic could do this itself, but its TLS knows no revocation lists.

use crate::credentials::{Keeper, Place};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// How long an engine may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait to be accepted.
const HANDSHAKES: usize = 256;
/// How long to wait when the system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The connections that `listener` takes until `shutdown`, each after its handshake.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Arc<Keeper>,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Severable>> {
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

async fn accept(listener: &TcpListener, tls: &Arc<Keeper>, ready: &mpsc::Sender<io::Result<Severable>>) {
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
                let stream = tls.engines().accept(stream).await?;
                let place = tls.admit(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
                Ok::<_, io::Error>(Severable::new(stream, place))
            };
            match timeout(HANDSHAKE, hands).await {
                // Nobody takes it when the server is gone, which then is no loss.
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                Ok(Err(error)) => tls.refused("sync", Some(peer), &error),
                Err(_) => tls.refused("sync", Some(peer), &io::ErrorKind::TimedOut.into()),
            }
        });
    }
}

/// An engine's connection, which fails whatever is done with it once it is cut: also while nobody has anything to say.
pub(crate) struct Severable {
    stream: TlsStream<TcpStream>,
    place: Option<(Place, Pin<Box<WaitForCancellationFutureOwned>>)>,
}

impl Severable {
    fn new(stream: TlsStream<TcpStream>, place: Option<Place>) -> Self {
        let place = place.map(|place| {
            let cut = place.cut().clone().cancelled_owned();
            (place, Box::pin(cut))
        });
        Self { stream, place }
    }

    /// Whether it is cut; if not, whoever polls is woken when it is.
    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        let Some((place, cut)) = &mut self.place else { return false };
        // What is over must not be polled again.
        place.cut().is_cancelled() || cut.as_mut().poll(context).is_ready()
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the client's certificate is good no more")
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Severable {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
