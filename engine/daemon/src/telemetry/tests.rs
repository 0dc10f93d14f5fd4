use super::*;
use crate::provisioning::InterfaceState;
use crate::reconcile::counted::Counted;
use crate::reconcile::status::{InterfaceStatus, PathStatus};
use overlane_dataplane::counters::{Drops, PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::failure::{Failure, Origin};
use overlane_dataplane::id::VnetId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::{EnvFilter, Registry, reload};

#[derive(Debug, Default)]
struct FakeVitals {
    stalled: Mutex<Option<String>>,
}

impl Vitals for FakeVitals {
    fn workers(&self) -> Vec<WorkerVitals> {
        vec![WorkerVitals {
            core: 3,
            turns: 11,
            cycles: BusyCycles {
                receive: 300,
                classify: 250,
                authorise: 50,
                translate: 200,
                send: 100,
                turns: 1000,
            },
            cycles_per_packet: BusyCycles {
                receive: 30,
                classify: 25,
                authorise: 5,
                translate: 20,
                send: 10,
                turns: 100,
            },
            busy: Duration::from_millis(1500),
            ..WorkerVitals::default()
        }]
    }

    fn buffers(&self) -> (u32, u32) {
        (1024, 24)
    }

    fn flows(&self) -> FlowVitals {
        FlowVitals {
            capacity: 1000,
            memory: 80_000,
            live: 7,
            inserted: 30,
            expired: 8,
            replaced: 4,
            evicted: Evicted { closing: 1, half_open: 2, established: 8 },
            refused: 5,
            collided: 6,
        }
    }

    fn stalled(&self) -> Option<String> {
        self.stalled.lock().clone()
    }

    fn unplaced(&self) -> Totals {
        Totals::default()
    }
}

struct Served {
    address: std::net::SocketAddr,
    status: watch::Sender<Arc<Status>>,
    vitals: Arc<FakeVitals>,
    _filter: reload::Layer<EnvFilter, Registry>,
}

async fn serve(status: Status) -> Served {
    let (status, receiver) = watch::channel(Arc::new(status));
    let vitals = Arc::new(FakeVitals::default());
    let (log, filter) = LogLevel::detached("info").unwrap();
    let refused = Arc::<EventLog>::default();
    let failure = Failure {
        reason: DropReason::SrcSlotMismatch,
        origin: Origin::Others,
        vnet: VnetId::new(7).ok(),
        claim: None,
        count: 12,
    };
    refused.note(&failure, Some("fd00:0:0:b::/64".to_owned()), None);
    let (vitals_of, pulse) = (vitals.clone(), Arc::default());
    let (tracer, _) = Tracer::new(std::sync::Weak::new());
    let telemetry = Telemetry { status: receiver, vitals: vitals_of, refused, pulse, tracer, log };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, telemetry.router()).await });
    Served { address, status, vitals, _filter: filter }
}

impl Served {
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "").await
    }
}

fn busy_status() -> Status {
    let traffic = Arc::new(PerWorker::<Traffic>::new(2));
    traffic.get(1).unwrap().rx_packets.add(5);
    traffic.get(0).unwrap().icmp_errors_sent.add(3);
    traffic.get(1).unwrap().icmp_errors_limited.add(4);
    traffic.get(0).unwrap().drops.count(DropReason::SrcIpv4Spoofed);
    let mut before = Totals::default();
    before.drops[DropReason::SrcIpv4Spoofed.index()] = 2;
    before.icmp_errors_sent = 10;
    let vnet = VnetId::new(7).unwrap();
    let drops = Arc::new(PerWorker::<Drops>::new(2));
    drops.get(1).unwrap().count(DropReason::SrcPrefixMismatch);
    Status {
        host: "host-a".into(),
        revision_number: 42,
        mappings: 3,
        uplink: "uplink".into(),
        uplink_mtu: Some(1500),
        node_mtu: Some(1480),
        paths: vec![PathStatus {
            host: "fd00:0:0:b::/64".into(),
            mtu: 1300,
            until: Instant::now() + Duration::from_secs(590),
        }],
        counted: vec![
            Counted {
                name: "n1/eth0".into(),
                vnet: Some(vnet),
                now: Some(traffic),
                before: Arc::new(before),
            },
            Counted { name: "uplink".into(), vnet: None, now: None, before: Arc::default() },
        ],
        vnet_drops: vec![(vnet, drops)],
        interfaces: vec![InterfaceStatus {
            id: "n1/eth0".into(),
            vnet: 7,
            slot: 0,
            mac: "02:00:00:00:00:01".into(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
            kind: "veth",
            device: "veth-n1".into(),
            mtu: Some(1500),
            mtu_note: "its MTU is 1500".into(),
            state: InterfaceState::Live,
            detail: String::new(),
            silent: false,
        }],
        ..Status::default()
    }
}

#[tokio::test]
async fn metrics_count_drops_by_reason_port_and_vnet_over_all_ports_an_interface_had() {
    let served = serve(busy_status()).await;
    let (status, text) = served.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "overlane_drops_total{reason=\"src_ipv4_spoofed\",port=\"n1/eth0\",vnet=\"7\"} 3",
        "overlane_drops_total{reason=\"src_prefix_mismatch\",port=\"uplink\",vnet=\"7\"} 1",
        "overlane_rx_packets_total{port=\"n1/eth0\",vnet=\"7\"} 5",
        "overlane_rx_packets_total{port=\"uplink\",vnet=\"\"} 0",
        "overlane_icmp_errors_total{result=\"sent\",port=\"n1/eth0\",vnet=\"7\"} 13",
        "overlane_icmp_errors_total{result=\"limited\",port=\"n1/eth0\",vnet=\"7\"} 4",
        "overlane_icmp_errors_total{result=\"sent\",port=\"uplink\",vnet=\"\"} 0",
        "overlane_narrow_paths 1",
        "overlane_mtu_bytes{of=\"uplink\"} 1500",
        "overlane_mtu_bytes{of=\"node\"} 1480",
        "overlane_worker_turns_total{worker=\"0\",core=\"3\"} 11",
        "overlane_worker_cycles_total{worker=\"0\",core=\"3\",part=\"classify\"} 250",
        "overlane_worker_cycles_total{worker=\"0\",core=\"3\",part=\"other\"} 100",
        "overlane_worker_busy_seconds_total{worker=\"0\",core=\"3\"} 1.5",
        "overlane_mempool_size 1024",
        "overlane_mempool_free 1000",
        "overlane_flow_capacity 1000",
        "overlane_flows 7",
        "overlane_flows_inserted_total 30",
        "overlane_flows_expired_total 8",
        "overlane_flows_replaced_total 4",
        "overlane_flows_evicted_total{state=\"closing\"} 1",
        "overlane_flows_evicted_total{state=\"half_open\"} 2",
        "overlane_flows_evicted_total{state=\"established\"} 8",
        "overlane_flows_refused_total 5",
        "overlane_flows_collided_total 6",
        "overlane_revision 42",
        "overlane_mappings 3",
        "overlane_interfaces{state=\"live\"} 1",
        "overlane_ready 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
    }
    let drops = text.lines().filter(|line| line.starts_with("overlane_drops_total")).count();
    assert_eq!(drops, 2, "reasons that never happened have no line");
    assert_eq!(text.lines().filter(|line| line.starts_with("overlane_rx_packets_total")).count(), 2);
}

#[tokio::test]
async fn readiness_says_each_reason_and_liveness_is_another_question() {
    let served = serve(Status::default()).await;
    assert_eq!(served.get("/readyz").await, (200, "ready\n".to_owned()));
    served.status.send_modify(|status| {
        Arc::make_mut(status).unready = vec!["uplink: no address yet".into()];
    });
    *served.vitals.stalled.lock() = Some("worker 0 has been silent for 2 s".into());
    let reasons = "worker 0 has been silent for 2 s\nuplink: no address yet\n".to_owned();
    assert_eq!(served.get("/readyz").await, (503, reasons));
    assert_eq!(served.get("/livez").await, (200, "live\n".to_owned()));
    let (_, text) = served.get("/metrics").await;
    assert!(text.contains("overlane_ready 0"));
}

#[tokio::test]
async fn an_engine_whose_control_thread_has_ended_is_not_alive() {
    let mut served = serve(Status::default()).await;
    served.status = watch::channel(Arc::default()).0;
    assert_eq!(served.get("/livez").await, (503, "the control thread has ended\n".to_owned()));
}

#[tokio::test]
async fn status_is_json() {
    let served = serve(busy_status()).await;
    let (code, text) = served.get("/status").await;
    assert_eq!(code, 200);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["host"], "host-a");
    assert_eq!(value["ready"], true);
    assert_eq!(value["interfaces"][0]["state"], "live");
    assert_eq!(value["workers"][0]["core"], 3);
    assert_eq!(value["workers"][0]["cycles_per_packet"]["translate"], 20);
    let flows = &value["flows"];
    assert_eq!(
        (&flows["live"], &flows["capacity"], &flows["memory"]),
        (&7.into(), &1000.into(), &80_000.into())
    );
    assert_eq!(flows["evicted"]["established"], 8);
    assert_eq!((&value["uplink_mtu"], &value["node_mtu"]), (&1500.into(), &1480.into()));
    assert_eq!(value["interfaces"][0]["mtu"], 1500);
    assert_eq!(value["interfaces"][0]["mtu_note"], "its MTU is 1500");
    let path = &value["paths"][0];
    assert_eq!((&path["host"], &path["mtu"]), (&"fd00:0:0:b::/64".into(), &1300.into()));
    let left = path["seconds_left"].as_u64().unwrap();
    assert!((580..=590).contains(&left), "{left}");
}

#[tokio::test]
async fn the_log_level_changes_at_run_time_and_only_to_a_level() {
    let served = serve(Status::default()).await;
    assert_eq!(served.get("/log").await, (200, "info\n".to_owned()));
    assert_eq!(served.ask("PUT", "/log", "overlane_engine=debug").await.0, 200);
    assert_eq!(served.get("/log").await, (200, "overlane_engine=debug\n".to_owned()));
    let (code, text) = served.ask("PUT", "/log", "loud=very").await;
    assert_eq!((code, text.starts_with("must be error, warn, info, debug or trace")), (400, true), "{text}");
    assert_eq!(served.ask("PUT", "/log", &"x".repeat(5000)).await.0, 413);
    assert_eq!(served.get("/log").await.1, "overlane_engine=debug\n");
}

#[tokio::test]
async fn who_claims_to_be_another_is_in_the_status_with_its_prefix_and_in_metrics_by_reason() {
    let served = serve(Status::default()).await;
    let (_, text) = served.ask("GET", "/status", "").await;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let refused = &status["refused"][0];
    assert_eq!((&refused["prefix"], &refused["count"]), (&"fd00:0:0:b::/64".into(), &12.into()));
    let (_, text) = served.ask("GET", "/metrics", "").await;
    let line = "overlane_claims_refused_total{kind=\"verification_failed\",reason=\"src_slot_mismatch\"} 12";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn a_request_for_a_trace_that_makes_no_sense_is_refused_and_without_workers_there_is_none() {
    let served = serve(Status::default()).await;
    let (status, body) = served.ask("POST", "/trace", "{\"interfaces\": 1}").await;
    assert_eq!(status, 400);
    assert!(body.contains("unknown field `interfaces`"), "{body}");
    let (status, body) = served.ask("POST", "/trace", "{\"frame\": \"00\"}").await;
    assert_eq!(status, 503);
    assert!(body.contains("its workers have ended"), "{body}");
}
