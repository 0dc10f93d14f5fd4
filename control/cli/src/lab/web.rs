//! A web server in a namespace, and whoever fetches from it: programs that know nothing of Overlane.

use super::netns::Namespace;
use super::process::Process;
use super::wait;
use anyhow::{Context, Result, ensure};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Bytes of the file that is served.
const SIZE: usize = 2 << 20;

/// A server of one file, at every address of a namespace, until it is dropped.
#[derive(Debug)]
pub struct WebServer {
    process: Process,
    port: u16,
    content: Vec<u8>,
}

impl WebServer {
    /// Starts Python's server, and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(state: &Path, label: &str, namespace: &Namespace, port: u16) -> Result<Self> {
        let directory = state.join(format!("www-{label}"));
        std::fs::create_dir_all(&directory)?;
        // What differs from place to place, so that no byte can take another's.
        let content: Vec<u8> = (0..SIZE)
            .map(|place| (place.wrapping_mul(2_654_435_761) >> 11) as u8 ^ label.len() as u8)
            .collect();
        std::fs::write(directory.join("file"), &content)?;
        let mut command = namespace.command("python3");
        command.args(["-m", "http.server", "--bind", "::"]).arg(port.to_string()).current_dir(&directory);
        let name = format!("web-{label}");
        Process::clear(state, &name)?;
        let process = Process::start(state, &name, command)?;
        let mut server = Self { process, port, content };
        let local =
            if namespace.read_sysctl("ipv6/conf/all/disable_ipv6")? == "0" { "[::1]" } else { "127.0.0.1" };
        wait::until("the web server to answer", Duration::from_secs(10), || {
            ensure!(server.process.is_running(), "the web server ended");
            let mut curl = namespace.command("curl");
            curl.args(["-s", "-o", "/dev/null", "--max-time", "1"])
                .arg(format!("http://{local}:{port}/file"));
            Ok(curl.status()?.success().then_some(()))
        })
        .inspect_err(|_| {
            let _ = server.process.kill();
        })?;
        Ok(server)
    }

    /// Has `curl` fetch the file from `at`, and compares every byte.
    ///
    /// # Errors
    /// If it does not arrive within ten seconds, or differently.
    pub fn fetched(&self, from: &Namespace, at: IpAddr) -> Result<()> {
        let url = match at {
            IpAddr::V4(at) => format!("http://{at}:{}/file", self.port),
            IpAddr::V6(at) => format!("http://[{at}]:{}/file", self.port),
        };
        let mut curl = from.command("curl");
        let output = curl.args(["-sS", "--max-time", "10", &url]).output().context("curl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl {url} in {from}: {said}");
        ensure!(output.stdout == self.content, "{url} came differently to {from}");
        Ok(())
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // What does not end now ends with the lab.
        let _ = self.process.kill();
    }
}
