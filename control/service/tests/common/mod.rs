//! A real service in this process: real TLS, a real store in a directory of its own; an HTTP client and an engine's
//! end of the sync protocol.
#![allow(dead_code, unreachable_pub)] // Every test file uses its part.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use overlane_api::config::Source;
use overlane_api::pki::Authority;
use overlane_api::sync::sync_client::SyncClient;
use overlane_api::sync::{
    Ack, Change, EngineMessage, Hello, InterfaceReport, InterfaceState, PROTOCOL_VERSION, Revision,
    ServiceMessage, change::What, engine_message, service_message::Body,
};
use overlane_api::tls::{Credentials, TlsFiles};
use overlane_control::config::Config;
use overlane_control::service::Service;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Error};
use tonic::{Status, Streaming};

/// Whatever is waited for comes within this, or the test fails.
pub const SOON: Duration = Duration::from_secs(20);
pub const SERVER_NAME: &str = "control";

/// A site with more tables in its configuration, its service, and an operator's connection to it, who has made what
/// [`Client::furnish`] does.
pub async fn furnished(more: &str) -> (Site, Service, Client) {
    let site = Site::with(more);
    let service = site.start().await;
    let mut api = site.api(&service).await;
    api.furnish().await;
    (site, service, api)
}

/// A directory with certificates and a configuration.
pub struct Site {
    pub directory: TempDir,
    pub authority: Authority,
    pub config: Config,
}

impl Site {
    pub fn new() -> Self {
        Self::with("")
    }

    /// With more tables for the configuration.
    pub fn with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::generate("test authority").unwrap();
        authority.provision(directory.path(), SERVER_NAME, &[SERVER_NAME]).unwrap();
        let text = configuration(more);
        let file = directory.path().join("control.toml");
        std::fs::write(&file, &text).unwrap();
        let config = Config::parse(&Source::new(&file, text)).unwrap();
        Self { directory, authority, config }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn certificate(&self, name: &str) -> TlsFiles {
        self.authority.provision(self.directory.path(), name, &[name]).unwrap()
    }

    pub async fn start(&self) -> Service {
        Service::start(&self.config).await.unwrap()
    }

    pub async fn api(&self, service: &Service) -> Client {
        Client::connect(service.api_address(), &self.certificate("operator")).await.unwrap()
    }

    /// A connection without a certificate, that shows a token.
    pub async fn bearer(&self, service: &Service, token: &str) -> Client {
        let mut client = Client::anonymous(service.api_address(), &self.path("ca.crt")).await.unwrap();
        client.authorization = Some(format!("Bearer {token}"));
        client
    }

    pub fn engine_channel(&self, service: &Service, name: &str) -> Dialer {
        Dialer { address: service.sync_address(), files: self.certificate(name) }
    }

    /// An engine that is connected and has said hello.
    pub async fn engine(&self, service: &Service, host: &str, applied: Option<Revision>) -> Engine {
        let channel = self.engine_channel(service, host).connect().await.unwrap();
        Engine::hello(channel, hello(applied)).await.unwrap()
    }
}

/// An engine's way to a service.
pub struct Dialer {
    pub address: SocketAddr,
    pub files: TlsFiles,
}

impl Dialer {
    pub async fn connect(&self) -> Result<Channel, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        Credentials::load(&self.files).unwrap().grpc_connect(endpoint, SERVER_NAME).await
    }
}

pub fn configuration(more: &str) -> String {
    format!(
        "[store]\npath = \"store.redb\"\n{more}\n[api]\nlisten = \"127.0.0.1:0\"\noperators = [\"operator\"]\n\
         [sync]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nlisten = \"127.0.0.1:0\"\n\
         [tls]\nca = \"ca.crt\"\ncert = \"control.crt\"\nkey = \"control.key\"\n"
    )
}

pub fn hello(last_applied: Option<Revision>) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        last_applied,
        engine_version: "test".to_owned(),
        capacity: 64,
    }
}

/// A client of the HTTP API, on one connection.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    /// What it says in its `Authorization` header.
    pub authorization: Option<String>,
    /// Whom requests are addressed to.
    pub host: &'static str,
    /// Of the last answer.
    pub headers: hyper::HeaderMap,
}

impl Client {
    pub async fn connect(address: SocketAddr, files: &TlsFiles) -> std::io::Result<Self> {
        let credentials = Credentials::load(files).unwrap();
        Self::with_tls(address, TlsConnector::from(credentials.rustls_client(&[b"http/1.1"]))).await
    }

    /// Without a certificate.
    pub async fn anonymous(address: SocketAddr, ca: &std::path::Path) -> std::io::Result<Self> {
        Self::with_tls(address, TlsConnector::from(overlane_api::tls::anonymous_client(ca, None).unwrap()))
            .await
    }

    async fn with_tls(address: SocketAddr, connector: TlsConnector) -> std::io::Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        Self::over(connector.connect(SERVER_NAME.try_into().unwrap(), stream).await?).await
    }

    /// Without TLS.
    pub async fn plain(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(tokio::net::TcpStream::connect(address).await?).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, host: SERVER_NAME, authorization: None, headers: hyper::HeaderMap::new() })
    }

    pub async fn raw(&mut self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.host)
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)));
        let mut request = request.unwrap();
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert("authorization", authorization.parse().unwrap());
        }
        self.sender.ready().await.unwrap();
        let response = timeout(SOON, self.sender.send_request(request)).await.unwrap().unwrap();
        let status = response.status().as_u16();
        self.headers = response.headers().clone();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    /// Whether the connection still is one.
    pub async fn answers(&mut self, path: &str) -> bool {
        let request = hyper::Request::get(path).header("host", SERVER_NAME).body(Full::default()).unwrap();
        self.sender.ready().await.is_ok() && self.sender.send_request(request).await.is_ok()
    }

    pub async fn call(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        let (status, body) = self.raw(method, path, "application/json", text).await;
        (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    pub async fn get(&mut self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn put(&mut self, path: &str, body: Value) -> Value {
        let (status, body) = self.call("PUT", path, body).await;
        assert!(matches!(status, 200 | 201), "{path}: {status} {body}");
        body
    }

    pub async fn delete(&mut self, path: &str) {
        let (status, body) = self.call("DELETE", path, Value::Null).await;
        assert_eq!(status, 204, "{path}: {body}");
    }

    /// A refusal: its status and its error.
    pub async fn refused(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.call(method, path, body).await;
        assert!(status >= 400, "{path}: {status} {body}");
        (status, body["error"].clone())
    }

    /// Two entities, a network each with the same addresses, and three hosts.
    pub async fn furnish(&mut self) {
        for (entity, network, vnet) in [("acme", "blue", 7), ("umbrella", "red", 8)] {
            self.put(&format!("/v1/entities/{entity}"), json!({})).await;
            let subnets = json!([{"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"}]);
            let body = json!({"entity": entity, "vnet": vnet, "subnets": subnets});
            self.put(&format!("/v1/networks/{network}"), body).await;
        }
        for host in ["a", "b", "c"] {
            let body = json!({"prefix": format!("fd00:0:0:{host}::/64")});
            self.put(&format!("/v1/hosts/host-{host}"), body).await;
        }
    }

    pub async fn node(&mut self, id: &str, host: &str, address: &str) -> Value {
        self.put(&format!("/v1/nodes/{id}"), node(host, id, address)).await
    }
}

/// A node of acme's with one interface in blue.
pub fn node(host: &str, device: &str, address: &str) -> Value {
    json!({"entity": "acme", "host": host, "interfaces": [{
        "name": "eth0", "network": "blue", "addresses": [address],
        "attachment": {"kind": "veth", "device": device},
    }]})
}

/// Networks behind nodes, and networks that nodes may send from.
pub type Routes = (BTreeMap<String, Vec<u8>>, Vec<(String, u8)>);

/// What an engine knows: applied strictly as the protocol says.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Known {
    pub revision: Option<Revision>,
    pub host: Option<String>,
    pub vnets: BTreeMap<u32, u64>,
    pub interfaces: BTreeMap<String, (u64, overlane_api::sync::Interface)>,
    pub mappings: BTreeMap<(u32, u32), (u64, overlane_api::sync::Mapping)>,
    pub rules: BTreeMap<String, (u64, overlane_api::sync::Rule)>,
    /// Which vnets are on demand.
    pub on_demand: BTreeMap<u32, bool>,
    /// Which hosts have members of which groups: vnet, group, last octets of prefixes.
    pub groups: BTreeMap<(u32, Ipv4Addr), Vec<u8>>,
    /// How vnets carry broadcast and multicast.
    pub carrying: BTreeMap<u32, overlane_api::sync::GroupSettings>,
    /// Which networks are behind which nodes of vnets, by the last octets of their addresses, and what others may send from.
    pub routes: BTreeMap<u32, Routes>,
    /// Which routers of vnets are silent, for each of their networks.
    pub silent: BTreeMap<u32, Vec<u8>>,
    /// The externals of vnets, and what nodes know them by.
    pub externals: BTreeMap<u32, Vec<(String, String)>>,
    /// What nodes are told by DHCP.
    pub dhcp: BTreeMap<u32, Option<overlane_api::sync::Dhcp>>,
    /// The last octets of addresses that it was told to refresh.
    pub refreshed: Vec<u8>,
}

impl Known {
    pub fn apply(&mut self, change: &Change) {
        let late = |kept: Option<u64>| kept.is_some_and(|kept| kept > change.revision);
        match change.what.clone().unwrap() {
            What::PutHost(host) => self.host = Some(host.prefix),
            What::PutVnet(vnet) => {
                self.vnets.insert(vnet.id, change.revision);
                self.on_demand.insert(vnet.id, vnet.on_demand);
                self.dhcp.insert(vnet.id, vnet.dhcp);
                let externals = vnet.externals.into_iter().map(|external| (external.ipv6, external.ipv4));
                self.externals.insert(vnet.id, externals.collect());
                let silent =
                    vnet.routes.iter().flat_map(|route| &route.silent).map(|via| *via as u8).collect();
                self.silent.insert(vnet.id, silent);
                let routes = vnet.routes.into_iter();
                let routes =
                    routes.map(|route| (route.cidr, route.via.iter().map(|via| *via as u8).collect()));
                let transits = vnet.transits.into_iter().map(|transit| (transit.cidr, transit.via as u8));
                self.routes.insert(vnet.id, (routes.collect(), transits.collect()));
                self.carrying.extend(vnet.groups.map(|groups| (vnet.id, groups)));
            }
            What::DeleteVnet(id) => {
                if !late(self.vnets.get(&id).copied()) {
                    self.vnets.remove(&id);
                }
            }
            What::PutInterface(interface) => {
                self.interfaces.insert(interface.id.clone(), (change.revision, interface));
            }
            What::DeleteInterface(id) => {
                if !late(self.interfaces.get(&id).map(|kept| kept.0)) {
                    self.interfaces.remove(&id);
                }
            }
            What::PutMapping(mapping) => {
                let key = mapping.key.unwrap();
                self.mappings.insert((key.vnet, key.ipv4), (change.revision, mapping));
            }
            What::RefreshMapping(mapping) => {
                let key = mapping.key.unwrap();
                self.refreshed.push(key.ipv4 as u8);
                if let Some(kept) = self.mappings.get_mut(&(key.vnet, key.ipv4)) {
                    *kept = (change.revision, mapping);
                }
            }
            What::DeleteMapping(key) => {
                let key = (key.vnet, key.ipv4);
                if !late(self.mappings.get(&key).map(|kept| kept.0)) {
                    self.mappings.remove(&key);
                }
            }
            What::PutGroup(group) => {
                let hosts = group.hosts.iter().map(|prefix| *prefix.last().unwrap()).collect();
                self.groups.insert((group.vnet, Ipv4Addr::from_bits(group.ipv4)), hosts);
            }
            What::DeleteGroup(key) => {
                self.groups.remove(&(key.vnet, Ipv4Addr::from_bits(key.ipv4)));
            }
            What::PutRule(rule) => {
                self.rules.insert(rule.id.clone(), (change.revision, rule));
            }
            What::DeleteRule(id) => {
                if !late(self.rules.get(&id).map(|kept| kept.0)) {
                    self.rules.remove(&id);
                }
            }
        }
    }

    /// The mapping of an address in blue.
    pub fn blue(&self, last: u8) -> Option<&overlane_api::sync::Mapping> {
        self.mappings.get(&(7, u32::from_be_bytes([10, 0, 0, last]))).map(|(_, mapping)| mapping)
    }
}

/// Where a mapping leads: the host's letter in its prefix, and the slot.
pub fn spot(location: &Option<overlane_api::sync::Location>) -> Option<(u8, u32)> {
    location.as_ref().map(|location| (location.prefix[7], location.slot))
}

/// An engine's end of a stream.
pub struct Engine {
    pub client: SyncClient<Channel>,
    pub outbound: mpsc::Sender<EngineMessage>,
    pub inbound: Streaming<ServiceMessage>,
    pub known: Known,
    /// How many snapshots it was told.
    pub snapshots: u32,
    /// Whether it acknowledges what it applies.
    pub acknowledges: bool,
    part: Option<Known>,
}

impl Engine {
    pub async fn hello(channel: Channel, hello: Hello) -> Result<Self, Status> {
        let mut client = SyncClient::new(channel);
        let (outbound, receiver) = mpsc::channel(8);
        outbound.send(EngineMessage { body: Some(engine_message::Body::Hello(hello)) }).await.unwrap();
        let inbound =
            timeout(SOON, client.subscribe(ReceiverStream::new(receiver))).await.unwrap()?.into_inner();
        let known = Known::default();
        let mut engine =
            Self { client, outbound, inbound, known, snapshots: 0, acknowledges: true, part: None };
        match engine.next().await?.body {
            Some(Body::Welcome(_)) => Ok(engine),
            other => panic!("no Welcome but {other:?}"),
        }
    }

    pub async fn next(&mut self) -> Result<ServiceMessage, Status> {
        match timeout(SOON, self.inbound.message()).await.expect("nothing came") {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Status::ok("ended")),
            Err(status) => Err(status),
        }
    }

    pub async fn send(&self, body: engine_message::Body) {
        self.outbound.send(EngineMessage { body: Some(body) }).await.unwrap();
    }

    pub async fn report(&self, interface: &str, state: InterfaceState) {
        self.report_groups(interface, state, &[]).await;
    }

    pub async fn report_groups(&self, interface: &str, state: InterfaceState, groups: &[Ipv4Addr]) {
        let groups = groups.iter().map(|group| group.to_bits()).collect();
        self.send_report(interface, state, InterfaceReport { groups, ..InterfaceReport::default() }).await;
    }

    pub async fn report_silence(&self, interface: &str, state: InterfaceState, silent: bool) {
        self.send_report(interface, state, InterfaceReport { silent, ..InterfaceReport::default() }).await;
    }

    async fn send_report(&self, interface: &str, state: InterfaceState, report: InterfaceReport) {
        let report = InterfaceReport { interface_id: interface.to_owned(), state: state.into(), ..report };
        self.send(engine_message::Body::InterfaceReport(report)).await;
    }

    /// Applies one message.
    pub async fn step(&mut self) -> Result<(), Status> {
        let complete = match self.next().await?.body.unwrap() {
            Body::SnapshotBegin(_) => {
                self.snapshots += 1;
                self.part = Some(Known::default());
                None
            }
            Body::SnapshotPart(changes) => {
                let part = self.part.as_mut().expect("a part outside a snapshot");
                changes.changes.iter().for_each(|change| part.apply(change));
                None
            }
            Body::SnapshotEnd(end) => {
                self.known = self.part.take().expect("an end without a beginning");
                end.revision
            }
            Body::Delta(delta) => {
                delta.changes.unwrap().changes.iter().for_each(|change| self.known.apply(change));
                delta.revision
            }
            Body::Welcome(_) => panic!("a second Welcome"),
        };
        if let Some(revision) = complete {
            self.known.revision = Some(revision.clone());
            if self.acknowledges {
                self.send(engine_message::Body::Ack(Ack { revision: Some(revision) })).await;
            }
        }
        Ok(())
    }

    /// Goes on until `wanted` holds of what is known.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Known) -> bool) {
        let reached = timeout(SOON, async {
            while self.part.is_some() || !wanted(&self.known) {
                self.step().await.unwrap();
            }
        });
        if reached.await.is_err() {
            panic!("never: {what}; known: {:#?}", self.known);
        }
    }

    /// Goes on until told up to revision `number`, or that it is up to date.
    pub async fn until_revision(&mut self, number: u64) {
        self.until(&format!("revision {number}"), |known| {
            known.revision.as_ref().is_some_and(|revision| revision.number >= number)
        })
        .await;
    }
}

/// What `/metrics` shows.
pub async fn metrics(service: &Service) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(service.telemetry_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until `wanted` holds of what the API answers.
pub async fn until(client: &mut Client, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let body = client.get(path).await;
        if wanted(&body) {
            return body;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}; last {body}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
