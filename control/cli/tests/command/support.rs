//! What the tests of the command share: certificates, a way to run it, and a service that says what a test wants.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use overlane_api::pki::Authority;
use overlane_api::tls::{Credentials, TlsFiles};
use overlane_cli::args::Cli;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The name in every test service's certificate.
pub(crate) const SERVICE_NAME: &str = "control.test";

/// The name in the certificate of those who may use it.
pub(crate) const OPERATOR_NAME: &str = "operator.test";

/// A throw-away authority with certificates for the service and an operator.
pub(crate) struct Pki {
    pub(crate) service: TlsFiles,
    pub(crate) operator: TlsFiles,
    /// Signed by the same authority, and nobody to the API.
    pub(crate) stranger: TlsFiles,
    directory: tempfile::TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::generate("test").unwrap();
        let issue = |stem: &str, name: &str| authority.provision(directory.path(), stem, &[name]).unwrap();
        let service = issue("service", SERVICE_NAME);
        let operator = issue("operator", OPERATOR_NAME);
        let stranger = issue("stranger", "stranger.test");
        Self { service, operator, stranger, directory }
    }

    /// A file beside the certificates, removed with them.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The flags that lead to the service at `address`.
    pub(crate) fn flags(&self, address: SocketAddr) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let flags = [
            ("--api", format!("https://{address}")),
            ("--server-name", SERVICE_NAME.to_owned()),
            ("--ca", path(&self.operator.ca)),
            ("--cert", path(&self.operator.certificate)),
            ("--key", path(&self.operator.key)),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

/// Runs `overlane` with `flags` and the words of `line`; what it wrote, or how it failed.
pub(crate) fn overlane(flags: &[String], line: &str) -> Result<String, anyhow::Error> {
    let words = line.split_whitespace().map(str::to_owned);
    let cli =
        Cli::try_parse_from(["overlane".to_owned()].into_iter().chain(flags.iter().cloned()).chain(words))?;
    let mut out = Vec::new();
    overlane_cli::run(cli, &mut out)?;
    Ok(String::from_utf8(out)?)
}

/// What a scripted service answers to `GET /v1/nodes/web` and the like: raw HTTP, or nothing to hang up.
pub(crate) type Script = Box<dyn FnMut(&str) -> Option<Vec<u8>> + Send>;

/// A whole answer.
pub(crate) fn answer(status: u16, body: &str) -> Option<Vec<u8>> {
    Some(
        format!("HTTP/1.1 {status} Any\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .into_bytes(),
    )
}

/// A service that follows a script, on a thread of its own; it ends with the test.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    /// The first words of every request.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Scripted {
    pub(crate) fn start(files: &TlsFiles, script: Script) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv6Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Credentials::load(files).unwrap().rustls_server(&[b"http/1.1"]));
        let requests = Arc::<Mutex<Vec<String>>>::default();
        runtime.spawn(serve(listener, acceptor, script, requests.clone()));
        Self { address, requests, runtime: Some(runtime) }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One connection after the other, one request on each.
async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    mut script: Script,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        // A client that refuses our certificate says so itself.
        let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
        let mut request = Vec::new();
        while !is_whole(&request) {
            match tls.read_buf(&mut request).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let first = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        let asked = first.trim_end_matches(" HTTP/1.1").to_owned();
        requests.lock().unwrap().push(asked.clone());
        if let Some(answer) = script(&asked) {
            // A client that has seen enough of a long answer leaves.
            let _ = tls.write_all(&answer).await;
            let _ = tls.shutdown().await;
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.trim().parse().unwrap())
}
