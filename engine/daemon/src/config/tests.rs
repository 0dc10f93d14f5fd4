use super::*;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::limit::Rate;
use overlane_dataplane::table::flow::Timeouts;
use overlane_dataplane::translate::RouterSource;

const GOOD: &str = r#"
[engine]
host = "host-a"

[uplink]
kind = "packet"
device = "up0"
address = "fd00:0:0:ff::a/64"
gateway = "fd00:0:0:ff::1"

[provisioning]
service = "control.example:9471"
ca = "ca.pem"
cert = "host-a.pem"
key = "host-a.key"
"#;

fn parse(text: &str) -> Result<Config, FileError> {
    Config::parse(&Source::new(Path::new("conf/engine.toml"), text.to_owned()))
}

/// The message for [`GOOD`] with a piece replaced.
fn wrong(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.stale_max, Duration::from_secs(24 * 3600));
    assert_eq!(config.telemetry_listen.to_string(), "127.0.0.1:9470");
    assert_eq!((config.workers.idle, config.workers.hugepages), (Idle::Backoff, Hugepages::Auto));
    assert_eq!(config.layout, None);
    assert_eq!(config.uplink.name, "uplink");
    assert_eq!((config.translate, config.icmp), (Settings::default(), IcmpLimit::default()));
    assert_eq!(config.fragments, FragmentLimits::default());
    assert_eq!(config.flows, FlowLimits::default());
    assert_eq!(config.path_mtu_expiry, Duration::from_secs(600));
    let ProvisioningConfig::Service(service) = config.provisioning else { panic!("service") };
    assert_eq!(service.server_name, "control.example");
    assert_eq!(service.tls.unwrap().ca, Path::new("conf/ca.pem"));
}

#[test]
fn a_dedicated_core_spins_unless_told_otherwise() {
    let with = |workers: &str| parse(&format!("{GOOD}\n[workers]\n{workers}")).unwrap().workers;
    assert_eq!(with("cores = [2, 3]").idle, Idle::Spin);
    assert_eq!(with("cores = [2]\nidle = \"backoff\"").idle, Idle::Backoff);
    assert_eq!(with("cores = [2, 3]").cores, [2, 3]);
}

#[test]
fn errors_name_file_line_field_and_legal_values() {
    let golden = [
        (
            "host = \"host-a\"",
            "host = \"Host A\"",
            "conf/engine.toml:3: [engine] host: must be a host id of 1 to 63 lower-case letters, digits and '-', not \"Host A\"",
        ),
        (
            "kind = \"packet\"",
            "kind = \"tunnel\"",
            "conf/engine.toml:6: [uplink] kind: must be packet or devargs, not \"tunnel\"",
        ),
        (
            "device = \"up0\"",
            "device = \"up0,evil=1\"",
            "conf/engine.toml:7: [uplink] device: must be a kernel device name of 1 to 15 letters, digits, '_', '.' and '-', not beginning with '-' (nor ., .., all or default), not \"up0,evil=1\"",
        ),
        (
            "device = \"up0\"",
            "",
            "conf/engine.toml:6: [uplink] kind: kind = \"packet\" needs device = a kernel device name of 1 to 15 letters, digits, '_', '.' and '-', not beginning with '-' (nor ., .., all or default)",
        ),
        (
            "fd00:0:0:ff::a/64",
            "fd00:0:0:ff::a",
            "conf/engine.toml:8: [uplink] address: must be auto, or an IPv6 address with the length of its on-link prefix, like fd00:0:0:ff::2/64, not \"fd00:0:0:ff::a\"",
        ),
        (
            "device = \"up0\"",
            "device = \"up0\"\nmtu = 1279",
            "conf/engine.toml:8: [uplink] mtu: must be 1280 to 65535 bytes, not 1279",
        ),
        (
            "gateway = \"fd00:0:0:ff::1\"",
            "",
            "conf/engine.toml:8: [uplink] address: a static address needs gateway = the router's IPv6 address",
        ),
        (
            "gateway = \"fd00:0:0:ff::1\"",
            "gateway = \"fd00:0:0:fe::1\"",
            "conf/engine.toml:9: [uplink] gateway: must be link-local or another address of the prefix of fd00:0:0:ff::a/64, not fd00:0:0:fe::1",
        ),
        (
            "address = \"fd00:0:0:ff::a/64\"",
            "address = \"auto\"",
            "conf/engine.toml:9: [uplink] gateway: has no effect with address = \"auto\"; remove it",
        ),
        (
            "service = \"control.example:9471\"",
            "service = \"control.example\"",
            "conf/engine.toml:12: [provisioning] service: must be the service's host:port, like control.example:9471 or [fd00::1]:9471, not \"control.example\"",
        ),
        (
            "key = \"host-a.key\"",
            "",
            "conf/engine.toml:11: [provisioning]: service = … needs key = the file with the certificate's key, PEM",
        ),
        (
            "key = \"host-a.key\"",
            "key = \"host-a.key\"\nfile = \"static.toml\"",
            "conf/engine.toml:16: [provisioning] file: must be either service = … or file = …, not both",
        ),
        (
            "key = \"host-a.key\"",
            "key = \"host-a.key\"\ninsecure = true",
            "conf/engine.toml:13: [provisioning] ca: has no effect with insecure = true; remove one of them",
        ),
        (
            "ca = \"ca.pem\"\ncert = \"host-a.pem\"\nkey = \"host-a.key\"",
            "insecure = true",
            "conf/engine.toml:12: [provisioning] service: must be 127.0.0.1:port or [::1]:port with insecure = true, not \"control.example:9471\"",
        ),
        (
            "host = \"host-a\"",
            "host = \"host-a\"\nspeed = 11",
            "conf/engine.toml:4: [engine] speed: unknown field 'speed', expected 'host' or 'shutdown_deadline'",
        ),
        (
            "host = \"host-a\"",
            "host = 7",
            "conf/engine.toml:3: [engine] host: invalid type: integer '7', expected a string",
        ),
        ("host = \"host-a\"", "", "conf/engine.toml:2: [engine]: missing field 'host'"),
        ("kind = \"packet\"", "", "conf/engine.toml:5: [uplink]: missing field 'kind'"),
    ];
    for (from, to, message) in golden {
        assert_eq!(wrong(from, to), message);
    }
}

#[test]
fn tables_that_an_engine_needs_must_be_there() {
    let (engine, rest) = GOOD.split_once("[uplink]").unwrap();
    let (uplink, provisioning) = rest.split_once("[provisioning]").unwrap();
    let (uplink, provisioning) = (format!("[uplink]{uplink}"), format!("[provisioning]{provisioning}"));
    for (text, table) in [
        (format!("{uplink}{provisioning}"), "[engine]"),
        (format!("{engine}{provisioning}"), "[uplink]"),
        (format!("{engine}{uplink}"), "[provisioning]"),
    ] {
        let message = "must be there; conf/engine.toml shows what it has";
        assert_eq!(parse(&text).unwrap_err().to_string(), format!("conf/engine.toml: {table}: {message}"));
    }
}

#[test]
fn errors_in_optional_tables_name_them_too() {
    let golden = [
        ("[workers]\nidle = \"sleep\"", "[workers] idle: must be spin or backoff, not \"sleep\""),
        ("[workers]\ncores = [1, 1]", "[workers] cores: must be 1 to 64 different core numbers, like [2, 3]"),
        (
            "[translate]\ntraffic_class = \"keep\"",
            "[translate] traffic_class: must be copy or zero, not \"keep\"",
        ),
        (
            "[translate]\nudp_without_checksum = \"pass\"",
            "[translate] udp_without_checksum: must be compute or drop, not \"pass\"",
        ),
        (
            "[translate]\nlowest_ipv6_mtu = \"uplink\"",
            "[translate] lowest_ipv6_mtu: must be \"path\", or 1280 to 65535 bytes, not \"uplink\"",
        ),
        (
            "[translate]\nlowest_ipv6_mtu = 1279",
            "[translate] lowest_ipv6_mtu: must be \"path\", or 1280 to 65535 bytes, not 1279",
        ),
        (
            "[translate]\nlowest_ipv6_mtu = 65536",
            "[translate] lowest_ipv6_mtu: must be \"path\", or 1280 to 65535 bytes, not 65536",
        ),
        (
            "[translate]\nfragmented_icmp = true",
            "[translate] fragmented_icmp: invalid type: boolean 'true', expected a string",
        ),
        (
            "[translate]\nrouter_source = \"192.0.0.8\"",
            "[translate] router_source: must be gateway, or an IPv4 prefix of unicast addresses, of length 8 to 32, like 192.0.0.0/24, not \"192.0.0.8\"",
        ),
        (
            "[translate]\ntcp_mss_clamp = 1",
            "[translate] tcp_mss_clamp: invalid type: integer '1', expected a boolean",
        ),
        (
            "[translate]\nttl = 1",
            "[translate] ttl: unknown field 'ttl', expected one of 'traffic_class', 'udp_without_checksum', 'lowest_ipv6_mtu', 'fragmented_icmp', 'router_source', 'tcp_mss_clamp', 'node_mtu', 'gateway', 'network', 'map'",
        ),
        ("[icmp]\nrate = 0", "[icmp] rate: must be 1 to 1000000 errors per second, not 0"),
        ("[icmp]\nburst = 1000001", "[icmp] burst: must be 1 to 1000000 errors, not 1000001"),
        ("[groups]\ncopy_rate = 0", "[groups] copy_rate: must be 1 to 100000000 copies per second, not 0"),
        ("[groups]\nigmp_burst = 1001", "[groups] igmp_burst: must be 1 to 1000 messages, not 1001"),
        ("[fragments]\ndatagrams = 63", "[fragments] datagrams: must be 64 to 1048576 datagrams, not 63"),
        (
            "[fragments]\nheld = 4097",
            "[fragments] held: must be 1 to 4096 fragments, a quarter of [workers] mempool over all workers, not 4097",
        ),
        (
            "[fragments]\ntimeout = \"2m\"",
            "[fragments] timeout: must be a time from 10ms to 1m, a number with ms, s, m, h or d behind it, not \"2m\"",
        ),
        ("[flows]\ncapacity = 1023", "[flows] capacity: must be 1024 to 67108864 flows, not 1023"),
        (
            "[flows]\nudp = \"25h\"",
            "[flows] udp: must be a time from 1s to 1d, a number with ms, s, m, h or d behind it, not \"25h\"",
        ),
        (
            "[path_mtu]\nexpiry = \"299s\"",
            "[path_mtu] expiry: must be a time from 5m to 1d, a number with ms, s, m, h or d behind it, not \"299s\"",
        ),
        ("[workers]\nmempool = 10", "[workers] mempool: must be 1024 to 16777216 packet buffers, not 10"),
        (
            "[state]\nstale_max = \"soon\"",
            "[state] stale_max: must be a time from 1s to 365d, a number with ms, s, m, h or d behind it, not \"soon\"",
        ),
        (
            "[telemetry]\nlisten = \"localhost\"",
            "[telemetry] listen: must be an address and port, like 127.0.0.1:9470, not \"localhost\"",
        ),
        (
            "[log]\nlevel = \"\"",
            "[log] level: must be error, warn, info, debug or trace, or directives like info,overlane_engine::uplink=debug, not \"\"",
        ),
        (
            "[substrate]\nlayout = \"slot128\"",
            "[substrate] layout: must be slot64, plain72 or plain64, not \"slot128\"",
        ),
    ];
    for (text, message) in golden {
        let error = parse(&format!("{GOOD}\n{text}\n")).expect_err(text).to_string();
        assert_eq!(error, format!("conf/engine.toml:18: {message}"));
    }
}

#[test]
fn choices_that_the_standards_leave_are_the_operators() {
    let with = |text: &str| parse(&format!("{GOOD}\n{text}")).unwrap_or_else(|error| panic!("{error}"));
    let other = "[translate]\ntraffic_class = \"zero\"\nudp_without_checksum = \"drop\"\nlowest_ipv6_mtu = 1280\n\
                 fragmented_icmp = \"drop\"\nrouter_source = \"192.0.0.0/24\"\ntcp_mss_clamp = true";
    let settings = Settings {
        copy_traffic_class: false,
        compute_udp_checksum: false,
        lowest_ipv6_mtu: Some(1280),
        carry_fragmented_icmp: false,
        router_source: RouterSource::Pool("192.0.0.0/24".parse().unwrap()),
        clamp_tcp_mss: true,
    };
    assert_eq!(with(other).translate, settings);
    let same = "[translate]\ntraffic_class = \"copy\"\nudp_without_checksum = \"compute\"\nlowest_ipv6_mtu = \"path\"\n\
                fragmented_icmp = \"carry\"\nrouter_source = \"gateway\"\ntcp_mss_clamp = false";
    assert_eq!(with(same).translate, Settings::default());
    assert_eq!(with("[icmp]\nrate = 7\nburst = 9").icmp, IcmpLimit { rate: 7, burst: 9 });
    let groups = with("[groups]\ncopy_rate = 1\ncopy_burst = 2\nigmp_rate = 3\nigmp_burst = 4").groups;
    let (copies, messages) = (Rate { rate: 1, burst: 2 }, Rate { rate: 3, burst: 4 });
    assert_eq!(groups, GroupLimit { copies, messages });
    assert_eq!(with("[path_mtu]\nexpiry = \"5m\"").path_mtu_expiry, Duration::from_secs(300));
}

#[test]
fn fragments_that_wait_leave_packet_buffers_to_others() {
    let with = |text: &str| parse(&format!("{GOOD}\n{text}")).map(|config| config.fragments);
    let limits = |datagrams, held, timeout| {
        Ok(FragmentLimits::new(datagrams, held, Duration::from_millis(timeout)).unwrap())
    };
    assert_eq!(with("[fragments]\ndatagrams = 64\nheld = 4096\ntimeout = \"500ms\""), limits(64, 4096, 500));
    assert_eq!(with("[fragments]\nheld = 1"), limits(4096, 1, 2000));
    let four = "[workers]\ncores = [0, 1, 2, 3]\nmempool = 2048";
    assert_eq!(with(four), limits(4096, 128, 2000));
    assert_eq!(with(&format!("{four}\n[fragments]\nheld = 128")), limits(4096, 128, 2000));
    assert!(with(&format!("{four}\n[fragments]\nheld = 129")).is_err());
}

#[test]
fn each_flow_setting_is_taken_as_it_is_given() {
    let with = |text: &str| parse(&format!("{GOOD}\n[flows]\n{text}")).unwrap().flows;
    let text = "capacity = 5000\ntcp_half_open = \"1s\"\ntcp_established = \"2m\"\ntcp_closing = \"3s\"\n\
                udp = \"4s\"\nicmp = \"5s\"\nother = \"1d\"";
    let timeouts = Timeouts {
        tcp_half_open: 64,
        tcp_established: 120 * 64,
        tcp_closing: 3 * 64,
        udp: 4 * 64,
        icmp: 5 * 64,
        other: 86_400 * 64,
    };
    assert_eq!(with(text), FlowLimits::new(5000, timeouts).unwrap());
    assert_eq!(with("udp = \"2m\""), FlowLimits::default());
    let shared = FlowLimits::new(5000, Timeouts::default()).unwrap();
    assert_eq!(with("capacity = 5000\nper_node = 5000"), shared.with_per_node(5000).unwrap());
    let bad = parse(&format!("{GOOD}\n[flows]\ncapacity = 5000\nper_node = 0")).unwrap_err();
    assert_eq!(bad.field, "[flows] per_node");
}

#[test]
fn routers_have_addresses_that_can_be_a_source() {
    let pool = |text: &str| parse(&format!("{GOOD}\n[translate]\nrouter_source = \"{text}\"")).is_ok();
    for good in ["10.0.0.0/8", "192.0.0.8/32", "100.64.0.0/10", "223.255.255.0/24"] {
        assert!(pool(good), "{good}");
    }
    for bad in
        ["0.0.0.0/0", "8.0.0.0/7", "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/8", "240.0.0.0/8", "10.0.0.1/24"]
    {
        assert!(!pool(bad), "{bad}");
    }
}

#[test]
fn text_that_is_not_toml_names_the_line() {
    let error = parse("[engine]\nhost = \n").unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (Some(2), "[engine] host"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nonexistent/engine.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/engine.toml: cannot be read: "), "{error}");
}

#[test]
fn the_sample_configuration_is_legal() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf/engine.toml");
    Config::load(&file).unwrap();
}

#[test]
fn defaults_that_the_sample_shows_for_translation_are_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf/engine.toml");
    let sample = std::fs::read_to_string(file).unwrap();
    let (begin, end) = (sample.find("[translate]").unwrap(), sample.find("[provisioning]").unwrap());
    let shown: Vec<&str> = sample[begin..end]
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    assert_eq!(shown.iter().filter(|line| !line.starts_with('#') && line.contains(" = ")).count(), 32);
    let (shown, default) = (parse(&format!("{GOOD}\n{}\n", shown.join("\n"))).unwrap(), parse(GOOD).unwrap());
    assert_eq!(shown, default);
}

#[test]
fn resolution_is_limited_as_configured() {
    let config = parse(&format!(
        "{GOOD}\n[resolve]\nexpiry = \"1m\"\nrefusal_expiry = \"3s\"\nhold = \"500ms\"\nrate = 7\nburst = 8\n\
         prefix_rate = 9\nprefix_burst = 10\nrefused = \"prohibited\""
    ))
    .unwrap();
    assert_eq!(config.mapping_expiry, Duration::from_secs(60));
    let limits = config.resolve;
    assert_eq!((limits.refusal, limits.hold), (Duration::from_secs(3), Duration::from_millis(500)));
    assert_eq!((limits.interface.rate, limits.interface.burst), (7, 8));
    assert_eq!((limits.prefix.rate, limits.prefix.burst, limits.tell_refused), (9, 10, true));
    let error = parse(&format!("{GOOD}\n[resolve]\nrefused = \"shout\"")).unwrap_err().to_string();
    assert!(error.contains("[resolve] refused: must be drop or prohibited"), "{error}");
}
