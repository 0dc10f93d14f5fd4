//! Fetches a backup: from the running service, or from its file when it is not running.

use crate::api::BACKUP_PATH;
use crate::backup;
use crate::config::Config;
use crate::store::{RedbStore, Step, Store};
use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use overlane_api::tls::Credentials;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Writes a backup to `file`, which must not exist; how many records it has.
///
/// # Errors
/// If neither the service answers nor its file can be opened, or the backup came to no end.
pub async fn backup(config: &Config, file: &Path) -> Result<u64> {
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("{}: cannot be made", file.display()))?;
    let written = match connect(config).await {
        Ok(stream) => fetch(config, stream, &mut out).await,
        Err(_) => dump(config, &mut out),
    };
    let written = written.and_then(|last| {
        out.sync_all()?;
        records(&last).context("the backup broke off")
    });
    if written.is_err() {
        // Half a backup would only mislead.
        let _ = std::fs::remove_file(file);
    }
    written
}

/// How many records the last line says there are.
fn records(last: &[u8]) -> Option<u64> {
    let line: serde_json::Value = serde_json::from_slice(last).ok()?;
    line.get("end")?.get("records")?.as_u64()
}

async fn connect(config: &Config) -> Result<TcpStream> {
    let ip = match config.api.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(TcpStream::connect(SocketAddr::new(ip, config.api.port())).await?)
}

async fn fetch(config: &Config, stream: TcpStream, out: &mut impl Write) -> Result<Vec<u8>> {
    let Some(files) = &config.tls else { return fetch_over(stream, "localhost", out).await };
    let credentials = Credentials::load(files)?;
    let name = credentials.names().first().context("the service's certificate has no DNS name")?.clone();
    let connector = TlsConnector::from(credentials.rustls_client(&[b"http/1.1"]));
    let stream = connector.connect(name.clone().try_into()?, stream).await.context("at [api] listen")?;
    fetch_over(stream, &name, out).await
}

async fn fetch_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    name: &str,
    out: &mut impl Write,
) -> Result<Vec<u8>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request =
        hyper::Request::get(BACKUP_PATH).header(hyper::header::HOST, name).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        bail!("the service answered {}", response.status());
    }
    let mut body = response.into_body();
    let mut last = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            out.write_all(&data)?;
            keep_last_line(&mut last, &data);
        }
    }
    driver.abort();
    Ok(last)
}

fn dump(config: &Config, out: &mut impl Write) -> Result<Vec<u8>> {
    ensure!(config.store.exists(), "the service does not answer, and there is no {}", config.store.display());
    let store = RedbStore::open(&config.store)?;
    let view = store.view()?;
    let (mut last, mut failure) = (Vec::new(), None);
    backup::write(&*view, &mut |line| match out.write_all(&line) {
        Ok(()) => {
            last = line;
            Step::Continue(())
        }
        Err(error) => {
            failure = Some(error);
            Step::Break(())
        }
    })?;
    failure.map_or(Ok(last), |error| Err(error.into()))
}

/// Keeps the last line of what has passed so far.
fn keep_last_line(last: &mut Vec<u8>, data: &[u8]) {
    for &byte in data {
        if last.last() == Some(&b'\n') {
            last.clear();
        }
        last.push(byte);
    }
}
