//! Certificates while the service runs: renewed without a loss, revoked and run out with effect on what is open.

mod common;

use common::{Client, Dialer, Engine, SERVER_NAME, SOON, Site, hello, metrics};
use overlane_api::pki::{Issued, Kind, Revoked, Serial};
use overlane_api::tls::TlsFiles;
use overlane_control::service::Service;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

const DAY: Duration = Duration::from_secs(86_400);

/// A site with a revocation list, on which nobody is yet.
struct Listed {
    site: Site,
    number: u64,
}

impl Listed {
    async fn start() -> (Self, Service, Client) {
        let mut listed = Self { site: Site::new(), number: 0 };
        listed.site.config.tls.as_mut().unwrap().crl = Some(listed.site.path("ca.crl"));
        listed.revoke(&[], DAY);
        let service = listed.site.start().await;
        let mut api = listed.site.api(&service).await;
        api.furnish().await;
        (listed, service, api)
    }

    /// Writes a list with these on it, that is good for so long.
    fn revoke(&mut self, serials: &[Serial], lifetime: Duration) {
        self.number += 1;
        let revoked: Vec<_> = serials.iter().map(|serial| Revoked { serial: *serial, at: 1 }).collect();
        let list = self.site.authority.revocation_list(&revoked, self.number, lifetime).unwrap();
        // In its place at once: the service may look at any moment.
        std::fs::write(self.site.path("new.crl"), list).unwrap();
        std::fs::rename(self.site.path("new.crl"), self.site.path("ca.crl")).unwrap();
    }

    /// A certificate that is good for so long, and its files.
    fn issue(&self, kind: Kind, name: &str, lifetime: Duration) -> (TlsFiles, Issued) {
        let issued = self.site.authority.issue_for(kind, &[name], lifetime).unwrap();
        let stem = format!("issued-{name}");
        let files = TlsFiles {
            ca: self.site.path("ca.crt"),
            certificate: self.site.path(&format!("{stem}.crt")),
            key: self.site.path(&format!("{stem}.key")),
            crl: None,
        };
        std::fs::write(&files.certificate, &issued.certificate_pem).unwrap();
        std::fs::write(&files.key, &issued.key_pem).unwrap();
        (files, issued)
    }
}

/// An engine with these files.
async fn engine(service: &Service, files: &TlsFiles) -> Result<Engine, String> {
    let dialer = Dialer { address: service.sync_address(), files: files.clone() };
    let channel = dialer.connect().await.map_err(|error| error.to_string())?;
    Engine::hello(channel, hello(None)).await.map_err(|status| status.to_string())
}

/// Reads until the stream breaks off.
async fn ends(engine: &mut Engine) {
    let broken = timeout(SOON, async { while engine.step().await.is_ok() {} });
    broken.await.expect("the stream goes on");
}

/// Reads the service's counters until one has this value.
async fn counted(service: &Service, line: &str) {
    let reached = timeout(SOON, async {
        while !metrics(service).await.lines().any(|have| have == line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if reached.await.is_err() {
        panic!("never: {line}\n{}", metrics(service).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_serves_new_connections_and_ends_none() {
    let (listed, service, mut api) = Listed::start().await;
    let (files, _) = listed.issue(Kind::Host, "host-a", DAY);
    let mut old = engine(&service, &files).await.unwrap();
    old.until_revision(1).await;
    // From another authority, which the service trusts from now on besides the first: who knows it alone gets in by the new
    // certificate, and by it alone.
    let other = overlane_api::pki::Authority::generate("another").unwrap();
    let renewed = other.issue_for(Kind::Service, &[SERVER_NAME], DAY).unwrap();
    let both = [listed.site.authority.certificate_pem(), other.certificate_pem()].concat();
    let own = other.issue_for(Kind::Host, &["host-b"], DAY).unwrap();
    let place = |name: &str, text: &str| std::fs::write(listed.site.path(name), text).unwrap();
    place("other.crt", other.certificate_pem());
    place("b.crt", &own.certificate_pem);
    place("b.key", &own.key_pem);
    let new = TlsFiles {
        ca: listed.site.path("other.crt"),
        certificate: listed.site.path("b.crt"),
        key: listed.site.path("b.key"),
        crl: None,
    };
    assert!(engine(&service, &new).await.is_err());
    // A renewal that is not complete changes nothing.
    place("control.key", "nonsense");
    counted(&service, r#"overlane_control_tls_reloads_total{outcome="failed"} 1"#).await;
    assert_eq!(api.get("/v1/hosts/host-a").await["id"], "host-a");
    place("ca.crt", &both);
    place("control.key", &renewed.key_pem);
    place("control.crt", &renewed.certificate_pem);
    service.reload();
    let reached = timeout(SOON, async {
        loop {
            if let Ok(engine) = engine(&service, &new).await {
                break engine;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    reached.await.expect("the renewed certificate is used").until_revision(1).await;
    // Whoever was there has noticed nothing.
    let revision = api.node("web", "host-a", "10.0.0.1").await["revision"].as_u64().unwrap();
    old.until_revision(revision).await;
    assert_eq!(old.snapshots, 1);
    assert!(!metrics(&service).await.contains("connections_cut_total{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_is_cut_at_once_and_stays_out_and_nobody_else_is() {
    let (mut listed, service, mut api) = Listed::start().await;
    let (files, revoked) = listed.issue(Kind::Host, "host-a", DAY);
    let (others, _) = listed.issue(Kind::Host, "host-b", DAY);
    let (operators, operator) = listed.issue(Kind::Operator, "operator", DAY);
    let mut stolen = engine(&service, &files).await.unwrap();
    let mut other = engine(&service, &others).await.unwrap();
    let mut thief = Client::connect(service.api_address(), &operators).await.unwrap();
    assert_eq!(thief.get("/v1/hosts/host-a").await["id"], "host-a");
    stolen.until_revision(1).await;
    other.until_revision(1).await;

    listed.revoke(&[revoked.serial, operator.serial], DAY);
    service.reload();
    ends(&mut stolen).await;
    counted(&service, r#"overlane_control_connections_cut_total{reason="revoked"} 2"#).await;
    assert!(engine(&service, &files).await.is_err());
    // The connection was idle, and is closed all the same.
    assert!(!thief.answers("/v1/hosts/host-a").await);
    let revision = api.node("web", "host-b", "10.0.0.1").await["revision"].as_u64().unwrap();
    other.until_revision(revision).await;
    // A new certificate of the same name is another one.
    let (files, _) = listed.issue(Kind::Host, "host-a", DAY);
    engine(&service, &files).await.unwrap().until_revision(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_life_of_its_certificate() {
    let (listed, service, mut api) = Listed::start().await;
    let (files, _) = listed.issue(Kind::Host, "host-a", Duration::from_secs(3));
    let mut engine = engine(&service, &files).await.unwrap();
    engine.until_revision(1).await;
    ends(&mut engine).await;
    counted(&service, r#"overlane_control_connections_cut_total{reason="expired"} 1"#).await;
    assert_eq!(api.put("/v1/entities/more", json!({})).await["id"], "more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_that_runs_out_lets_nobody_in_and_cuts_nobody() {
    let (mut listed, service, mut api) = Listed::start().await;
    let (files, _) = listed.issue(Kind::Host, "host-a", DAY);
    let mut held = engine(&service, &files).await.unwrap();
    held.until_revision(1).await;
    listed.revoke(&[], Duration::from_secs(4));
    service.reload();
    let (others, _) = listed.issue(Kind::Host, "host-b", DAY);
    let out = timeout(SOON, async {
        while engine(&service, &others).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    out.await.expect("the list runs out");
    // Who is there stays there.
    let revision = api.node("web", "host-a", "10.0.0.1").await["revision"].as_u64().unwrap();
    held.until_revision(revision).await;
    assert!(!metrics(&service).await.contains("connections_cut_total{"));
    listed.revoke(&[], DAY);
    service.reload();
    let back = timeout(SOON, async {
        while engine(&service, &others).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    back.await.expect("a new list lets everybody in again");
}
