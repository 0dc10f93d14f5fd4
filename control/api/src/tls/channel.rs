//! gRPC clients over the same TLS as everything else: tonic's own knows no revocation lists.

use super::Credentials;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Error, Uri};

/// What gRPC is called in ALPN.
pub const GRPC_ALPN: &[&[u8]] = &[b"h2"];

impl Credentials {
    /// Connects over mutual TLS to the gRPC server at `endpoint`, whose certificate must name `server_name` (a DNS name or
    /// an IP address). The endpoint's address is `http://host:port`: what is called `https` tonic would wrap once more.
    ///
    /// # Errors
    /// When the server cannot be reached, or its certificate or this party's is refused.
    pub async fn grpc_connect(&self, endpoint: Endpoint, server_name: &str) -> Result<Channel, Error> {
        let connector = TlsConnector::from(self.rustls_client(GRPC_ALPN));
        let name = server_name.to_owned();
        let connect = tower::service_fn(move |address: Uri| {
            let (connector, name) = (connector.clone(), name.clone());
            async move {
                let name = ServerName::try_from(name)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                let authority = address.authority().map_or("", |authority| authority.as_str());
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        endpoint.connect_with_connector(connect).await
    }
}
