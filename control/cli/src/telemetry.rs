//! Plain HTTP to an engine's telemetry listener, which is on loopback.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// For how long nothing may come, or be taken.
const PATIENCE: Duration = Duration::from_secs(2);

/// One HTTP/1.0 request over a connection to `host`.
///
/// # Errors
/// If nothing comes within two seconds, or no HTTP.
pub fn exchange(mut stream: TcpStream, host: &str, method: &str, path: &str, body: &str) -> Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    // The other side closes at the end of the body; 16 MiB is beyond any honest answer.
    stream.take(1 << 24).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP header")?;
    let status =
        head.split_ascii_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok(Answer { status, body: body.to_owned() })
}
