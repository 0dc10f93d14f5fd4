//! Files and configurations that are not as they should be.

use super::command::{MAPS, Place, RAW, capture, names, translate};
use super::packets::udp_packet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::Command;

fn good() -> Vec<u8> {
    let packet = udp_packet(8).0;
    capture(RAW, &[((1, 0), packet.clone()), ((2, 0), packet)])
}

#[test]
fn capture_that_is_malformed_is_named_by_offset_and_changes_no_file() {
    let place = Place::new(MAPS);
    let input = place.path("in.pcap").display().to_string();
    for name in ["out.pcap", "out.jsonl"] {
        fs::write(place.path(name), "before").unwrap();
    }
    let (mut long, length) = (good(), good().len());
    long[24 + 16 + 36 + 8..][..4].copy_from_slice(&[0xff; 4]);
    for (bytes, message) in [
        (b"no capture".to_vec(), "is no pcap file: it begins with 0x6e6f2063"),
        (good()[..23].to_vec(), "is cut off: the file header at offset 0 has 24 bytes, the file 23 of them"),
        (
            good()[..length - 1].to_vec(),
            "is cut off: the packet at offset 92 has 36 bytes, the file 35 of them",
        ),
        (long, "is malformed: the packet at offset 76 has 4294967295 bytes, and at most 262144 are possible"),
        (
            capture(113, &[]),
            "has link type 0x71 at offset 20; only Ethernet (1) and raw IP (101, 12, 14) can be translated",
        ),
    ] {
        assert_eq!(place.fails(&bytes), (Some(1), format!("overlane-engine: {input}: {message}\n")));
        for name in ["out.pcap", "out.jsonl"] {
            assert_eq!(fs::read(place.path(name)).unwrap(), b"before");
        }
    }
    let there = names(place.path("").as_path());
    assert_eq!(there, ["engine.toml", "in.pcap", "out.jsonl", "out.pcap"]);
    let (pcapng, error) = place.fails(&[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0]);
    assert!(pcapng == Some(1) && error.contains("is pcapng, not classic pcap; convert it with: "), "{error}");
}

#[test]
fn packet_of_which_only_the_beginning_was_captured_is_not_looked_at() {
    let mut bytes = good();
    // The first had a byte more.
    bytes[24 + 12] += 1;
    let outcome = Place::new(MAPS).translate(&bytes);
    let line = serde_json::json!({"index": 1, "side": "ipv4", "verdict": "truncated", "outputs": []});
    assert_eq!(outcome.report[0], line);
    assert_eq!(outcome.verdicts()[1], ("translated", None));
    assert_eq!((outcome.packets.len(), outcome.packets[0].0), (1, (2, 0)));
    assert!(outcome.summary.ends_with("translated 1, answered 0, dropped 0, truncated 1\n"));
}

#[test]
fn empty_capture_becomes_an_empty_one() {
    let outcome = translate(MAPS, &[]);
    assert!(outcome.packets.is_empty() && outcome.report.is_empty());
}

#[test]
fn configuration_that_is_wrong_is_named_and_ends_with_2() {
    for (config, message) in [
        ("", " [[translate.map]]: must say which IPv6 prefix is which IPv4 prefix"),
        ("[translate]\nmaps = 1", "2: [translate] maps: unknown field 'maps'"),
        (
            "[[translate.map]]\nipv4 = \"10.0.0.0/8\"\nipv6 = \"::/105\"",
            "3: [[translate.map]] ipv6: ::/105 has fewer addresses than 10.0.0.0/8; it must be of length 0 to 104\n",
        ),
    ] {
        let place = Place::new(config);
        let (status, error) = place.fails(&good());
        let beginning = format!("overlane-engine: {}:{message}", place.path("engine.toml").display());
        assert!(status == Some(2) && error.starts_with(&beginning), "{error}");
        assert!(!place.path("out.pcap").exists());
    }
}

#[test]
fn command_line_that_cannot_be_ends_with_2() {
    let place = Place::new(MAPS);
    fs::write(place.path("in.pcap"), good()).unwrap();
    fs::hard_link(place.path("in.pcap"), place.path("other")).unwrap();
    std::os::unix::fs::symlink("in.pcap", place.path("link")).unwrap();
    for (arguments, message) in [
        (&["--to-pcap", "in.pcap"][..], "--to-pcap: must be another file than --from-pcap: in.pcap"),
        (&["--to-pcap", "./other"], "--to-pcap: must be another file than --from-pcap: ./other"),
        (&["--to-pcap", "out", "--report", "link"], "--report: must be another file than --from-pcap: link"),
        (&["--to-pcap", "out", "--report", "./out"], "--report: must be another file than --to-pcap: ./out"),
    ] {
        let output = place.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error), (Some(2), format!("overlane-engine: {message}\n")));
    }
    assert_eq!(fs::read(place.path("in.pcap")).unwrap(), good());
    assert!(!place.path("out").exists());
    assert_eq!(place.run(&[]).status.code(), Some(2));
}

#[test]
fn file_that_cannot_be_read_or_written_ends_with_1() {
    let place = Place::new(MAPS);
    let missing = place.run(&["--to-pcap", "out.pcap"]);
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(
        missing.status.code() == Some(1) && error.contains("in.pcap: cannot be opened: No such file"),
        "{error}"
    );
    fs::write(place.path("in.pcap"), good()).unwrap();
    for (arguments, message) in [
        (&["--to-pcap", "no/out"][..], "no/out: cannot be written: No such file"),
        (&["--to-pcap", "."], ".: cannot be written: Is a directory"),
    ] {
        let output = place.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && error.contains(message), "{error}");
    }
    assert!(!place.path("out").exists());
}

#[test]
fn nothing_is_in_its_place_before_all_is_written() {
    let place = Place::new(MAPS);
    let packet = udp_packet(8).0;
    fs::write(place.path("in.pcap"), capture(RAW, &vec![((1, 0), packet); 2000])).unwrap();
    for [pipe, file] in [["--to-pcap", "--report"], ["--report", "--to-pcap"]] {
        // More than a pipe holds, and nobody who reads on once something is there.
        let path = place.path(&format!("pipe{pipe}"));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let reader = std::thread::spawn(move || {
            let readable = PollFd::new(reader.as_fd(), PollFlags::POLLIN);
            poll(&mut [readable], PollTimeout::from(60_000u16)).unwrap()
        });
        let output = place.run(&[pipe, &path.display().to_string(), file, "out"]);
        assert_eq!(reader.join().unwrap(), 1);
        let error = String::from_utf8(output.stderr).unwrap();
        let message = format!("overlane-engine: {}: cannot be written: Broken pipe", path.display());
        assert!(output.status.code() == Some(1) && error.starts_with(&message), "{error}");
        assert!(!place.path("out").exists());
        assert_eq!(names(place.path("").as_path()).iter().filter(|name| name.contains("partial")).count(), 0);
    }
}

#[test]
fn report_may_be_left_out_and_files_have_the_usual_rights() {
    let place = Place::new(MAPS);
    fs::write(place.path("in.pcap"), good()).unwrap();
    assert!(place.run(&["--to-pcap", "out.pcap"]).status.success());
    assert_eq!(names(place.path("").as_path()), ["engine.toml", "in.pcap", "out.pcap"]);
    let mode = |name: &str| place.path(name).metadata().unwrap().permissions().mode();
    assert_eq!(mode("out.pcap"), mode("in.pcap"));
}

#[test]
fn running_engine_refuses_what_is_for_this_command_only() {
    let engine = include_str!("../../../../conf/engine.toml");
    let only = "is for overlane-engine translate only, and has no effect on an engine that runs; keep it in a file of \
                its own";
    let place = Place::new("");
    let file = place.path("engine.toml");
    for (keys, field) in [
        ("node_mtu = 1400", "[translate] node_mtu"),
        ("gateway = \"192.0.2.1\"", "[translate] gateway"),
        ("network = \"red\"", "[translate] network"),
        ("[[translate.map]]\nipv4 = \"10.0.0.0/8\"\nipv6 = \"2001:db8::/96\"", "[[translate.map]] ipv4"),
    ] {
        let config = engine.replacen("\n[translate]\n", &format!("\n[translate]\n{keys}\n"), 1);
        assert!(config.contains(keys));
        fs::write(&file, config).unwrap();
        for arguments in [&["check-config"][..], &[]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_overlane-engine"));
            let output = command.arg("--config").arg(&file).args(arguments).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.code() == Some(2) && error.ends_with(&format!(": {field}: {only}\n")),
                "{error}"
            );
        }
    }
}
