use super::*;

/// A capture of one packet, by hand.
fn by_hand(big_endian: bool, nanoseconds: bool, link: u32) -> Vec<u8> {
    let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
    let mut bytes = word(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
    bytes.extend([half(2), half(4)].as_flattened());
    bytes.extend([0, 0, 65_535, link, 1_700_000_000, 999_999, 3, 3].map(word).as_flattened());
    bytes.extend(*b"abc");
    bytes
}

fn error(bytes: &[u8]) -> String {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return error.to_string(),
    };
    loop {
        match reader.read() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no error"),
            Err(error) => return error.to_string(),
        }
    }
}

#[test]
fn captures_of_both_byte_orders_and_resolutions_are_read_and_written_alike() {
    for (big_endian, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
        for (number, link) in [(1, Link::Ethernet), (101, Link::Raw), (12, Link::Raw), (14, Link::Raw)] {
            let bytes = by_hand(big_endian, nanoseconds, number);
            let mut reader = Reader::new(bytes.as_slice()).unwrap();
            assert_eq!(reader.header().link, link);
            let mut writer = Writer::like(reader.header(), Vec::new()).unwrap();
            let record = reader.read().unwrap().unwrap();
            assert_eq!((record.bytes, record.length, record.is_truncated()), (&b"abc"[..], 3, false));
            let fraction = Duration::from_nanos(if nanoseconds { 999_999 } else { 999_999_000 });
            assert_eq!(record.time.since_epoch(), Duration::from_secs(1_700_000_000) + fraction);
            writer.write(record.time, b"abc").unwrap();
            let mut written = writer.into_inner();
            assert!(reader.read().unwrap().is_none());
            // Room for packets that become longer than any that was read.
            let most = if big_endian { MOST.to_be_bytes() } else { MOST.to_le_bytes() };
            assert_eq!(written[16..20], most);
            written[16..20].copy_from_slice(&bytes[16..20]);
            assert_eq!(written, bytes);
        }
    }
}

#[test]
fn header_fields_that_mean_nothing_here_are_kept() {
    let mut bytes = by_hand(false, false, 1);
    bytes[8..20].copy_from_slice(&[0x10, 0x0e, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    let reader = Reader::new(bytes.as_slice()).unwrap();
    assert_eq!(Writer::like(reader.header(), Vec::new()).unwrap().into_inner(), bytes[..24]);
}

#[test]
fn packet_of_which_only_the_beginning_was_captured_is_known() {
    let mut bytes = by_hand(false, false, 1);
    bytes[36] = 4;
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let record = reader.read().unwrap().unwrap();
    assert_eq!((record.bytes.len(), record.length, record.is_truncated()), (3, 4, true));
}

#[test]
fn what_is_no_capture_is_named() {
    let good = by_hand(false, false, 1);
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        error(&bytes)
    };
    assert_eq!(with(0, b"GET "), "is no pcap file: it begins with 0x47455420");
    assert_eq!(error(b"GET "), "is no pcap file: it begins with 0x47455420");
    assert!(with(0, &[0x0a, 0x0d, 0x0d, 0x0a]).starts_with("is pcapng, not classic pcap; convert it with: "));
    assert_eq!(with(6, &[3]), "is pcap 2.3 at offset 4; only 2.4 is known");
    assert_eq!(
        with(20, &[113]),
        "has link type 0x71 at offset 20; only Ethernet (1) and raw IP (101, 12, 14) can be translated"
    );
    // Frames with a checksum behind them.
    assert!(with(23, &[0x44]).starts_with("has link type 0x44000001 "));
    let mut big = by_hand(true, false, 1);
    big[7] = 5;
    assert_eq!(error(&big), "is pcap 2.5 at offset 4; only 2.4 is known");
}

#[test]
fn malformed_packet_is_named_by_its_offset() {
    let good = by_hand(false, false, 1);
    let second = good.len();
    let with = |captured: u32, length: u32| {
        let mut bytes = [&good[..], &good[24..]].concat();
        bytes[second + 8..second + 12].copy_from_slice(&captured.to_le_bytes());
        bytes[second + 12..second + 16].copy_from_slice(&length.to_le_bytes());
        error(&bytes)
    };
    assert_eq!(
        with(262_145, u32::MAX),
        "is malformed: the packet at offset 43 has 262145 bytes, and at most 262144 are possible"
    );
    assert_eq!(with(3, 2), "is malformed: the packet at offset 43 had 2 bytes, of which 3 were captured");
    assert_eq!(
        with(262_144, 262_144),
        "is cut off: the packet at offset 59 has 262144 bytes, the file 3 of them"
    );
}

#[test]
fn file_may_end_between_packets_only() {
    let good = by_hand(false, false, 1);
    assert!(Reader::new(&good[..24]).unwrap().read().unwrap().is_none());
    for length in 0..good.len() {
        let expected = match length {
            0..24 => {
                format!("is cut off: the file header at offset 0 has 24 bytes, the file {length} of them")
            }
            24 => continue,
            25..40 => {
                let there = length - 24;
                format!("is cut off: the packet header at offset 24 has 16 bytes, the file {there} of them")
            }
            _ => {
                format!("is cut off: the packet at offset 40 has 3 bytes, the file {} of them", length - 40)
            }
        };
        assert_eq!(error(&good[..length]), expected, "{length}");
    }
}

#[test]
fn input_that_fails_is_named_by_its_offset() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("torn tape")) } else { self.0.read(into) }
        }
    }
    let good = by_hand(false, false, 1);
    let mut reader = Reader::new(Failing(&good[..41])).unwrap();
    assert_eq!(reader.read().unwrap_err().to_string(), "cannot be read at offset 41: torn tape");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        header: bool, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256),
    ) {
        let mut input = if header { by_hand(false, true, 1)[..24].to_vec() } else { vec![] };
        input.extend(bytes);
        if let Ok(mut reader) = Reader::new(input.as_slice()) {
            while let Ok(Some(record)) = reader.read() {
                proptest::prop_assert!(record.bytes.len() <= input.len());
            }
        }
    }
}
