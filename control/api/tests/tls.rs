//! Certificates made here work with the TLS set-up made here, and bad files are refused by name.

use overlane_api::pki::{Authority, Kind, Revoked};
use overlane_api::tls::{Credentials, Standing, TlsFiles, dns_names};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn refusal(files: &TlsFiles) -> String {
    Credentials::load(files).expect_err("must be refused").to_string()
}

#[test]
fn issued_certificates_load_and_name_their_owner() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test authority").unwrap();
    let files = authority.provision(directory.path(), "host-a", &["host-a", "fd00::1"]).unwrap();
    assert_eq!(Credentials::load(&files).unwrap().names(), ["host-a"]);

    let leaf = CertificateDer::from_pem_file(&files.certificate).unwrap();
    assert_eq!(dns_names(&leaf).unwrap(), ["host-a"]);
    assert!(dns_names(b"no certificate").is_err());
}

#[test]
fn private_keys_are_for_their_owner_only_even_when_the_file_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("host-a.key");
    fs::write(&key, "old").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let authority = Authority::generate("test authority").unwrap();
    authority.provision(directory.path(), "host-a", &["host-a"]).unwrap();
    authority.save(directory.path()).unwrap();
    for file in ["host-a.key", "ca.key"] {
        let mode = fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_saved_authority_goes_on_issuing() {
    let directory = tempfile::tempdir().unwrap();
    Authority::generate("test authority").unwrap().save(directory.path()).unwrap();
    let authority = Authority::load(directory.path()).unwrap();
    let files = authority.provision(directory.path(), "host-a", &["host-a"]).unwrap();
    Credentials::load(&files).unwrap();
}

#[test]
fn bad_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test authority").unwrap();
    let good = authority.provision(directory.path(), "a", &["a"]).unwrap();
    let other = authority.provision(directory.path(), "b", &["b"]).unwrap();

    let absent = TlsFiles { key: directory.path().join("absent.key"), ..good.clone() };
    assert!(refusal(&absent).contains("absent.key: cannot read it"), "{}", refusal(&absent));

    let swapped = TlsFiles { key: other.key.clone(), ..good.clone() };
    assert!(
        refusal(&swapped).contains("b.key: cannot be used with the certificate"),
        "{}",
        refusal(&swapped)
    );

    let keyless = TlsFiles { key: good.certificate.clone(), ..good.clone() };
    assert!(refusal(&keyless).contains("a.crt: no private key in it"), "{}", refusal(&keyless));

    let empty = directory.path().join("empty.crt");
    fs::write(&empty, "").unwrap();
    let uncertified = TlsFiles { certificate: empty.clone(), ..good.clone() };
    assert!(refusal(&uncertified).contains("empty.crt: no certificate in it"), "{}", refusal(&uncertified));
    let rootless = TlsFiles { ca: empty, ..good.clone() };
    assert!(refusal(&rootless).contains("empty.crt: no certificate in it"), "{}", refusal(&rootless));

    let expired = authority.issue(&["old"], Duration::ZERO).unwrap();
    let stale = TlsFiles {
        certificate: directory.path().join("old.crt"),
        key: directory.path().join("old.key"),
        ..good
    };
    fs::write(&stale.certificate, expired.certificate_pem).unwrap();
    fs::write(&stale.key, expired.key_pem).unwrap();
    // Certificates count whole seconds, so it is good for the rest of this one.
    let deadline = Instant::now() + Duration::from_secs(5);
    let error = loop {
        match Credentials::load(&stale) {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(Instant::now() < deadline, "still taken for valid"),
        }
        std::thread::yield_now();
    };
    assert!(error.contains("old.crt: valid only from"), "{error}");
}

/// A handshake over a pipe; what either side says of it.
fn shake_hands(server: &TlsFiles, client: &TlsFiles, name: &str) -> Result<(), String> {
    use std::io::{Read, Write};
    let (server, client) = (Credentials::load(server).unwrap(), Credentials::load(client).unwrap());
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let config = server.rustls_server(&[b"h2"]);
    let serve = std::thread::spawn(move || {
        let mut connection = rustls::ServerConnection::new(config).unwrap();
        let mut far = far;
        let mut stream = rustls::Stream::new(&mut connection, &mut far);
        let mut byte = [0];
        stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).map_err(|error| error.to_string())
    });
    let mut connection =
        rustls::ClientConnection::new(client.rustls_client(&[b"h2"]), name.to_owned().try_into().unwrap())
            .unwrap();
    let mut near = near;
    let mut stream = rustls::Stream::new(&mut connection, &mut near);
    let mut byte = [7];
    let said = stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte));
    drop(near);
    let served = serve.join().unwrap();
    served.and(said.map_err(|error| error.to_string()))
}

#[test]
fn a_revoked_certificate_is_refused_by_either_side_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test authority").unwrap();
    let day = Duration::from_secs(86_400);
    let place = |name: &str, kind| {
        let issued = authority.issue_for(kind, &[name], day).unwrap();
        let files = TlsFiles {
            ca: directory.path().join("ca.crt"),
            certificate: directory.path().join(format!("{name}.crt")),
            key: directory.path().join(format!("{name}.key")),
            crl: Some(directory.path().join("ca.crl")),
        };
        fs::write(&files.ca, authority.certificate_pem()).unwrap();
        fs::write(&files.certificate, &issued.certificate_pem).unwrap();
        fs::write(&files.key, &issued.key_pem).unwrap();
        (files, issued.serial)
    };
    let (service, service_serial) = place("control", Kind::Service);
    let (host, host_serial) = place("host-a", Kind::Host);
    let (other, _) = place("host-b", Kind::Host);
    let revoke = |serials: &[overlane_api::pki::Serial], number| {
        let revoked: Vec<_> = serials.iter().map(|serial| Revoked { serial: *serial, at: 1 }).collect();
        fs::write(directory.path().join("ca.crl"), authority.revocation_list(&revoked, number, day).unwrap())
            .unwrap();
    };
    revoke(&[], 1);
    shake_hands(&service, &host, "control").unwrap();
    shake_hands(&service, &other, "control").unwrap();
    revoke(&[host_serial], 2);
    let refused = shake_hands(&service, &host, "control").unwrap_err();
    assert!(refused.contains("Revoked"), "{refused}");
    shake_hands(&service, &other, "control").unwrap();
    // Also one that was let in before.
    let leaf = CertificateDer::from_pem_file(&host.certificate).unwrap();
    let credentials = Credentials::load(&service).unwrap();
    assert_eq!(credentials.standing(&[leaf]), Standing::Revoked);
    revoke(&[service_serial], 3);
    shake_hands(&service, &host, "control").unwrap_err();
    // Who has no list takes nothing for revoked.
    let blind = |files: &TlsFiles| TlsFiles { crl: None, ..files.clone() };
    shake_hands(&blind(&service), &blind(&host), "control").unwrap();
    // A host is no service, whatever its name.
    let (posing, _) = place("posing", Kind::Host);
    shake_hands(&blind(&posing), &blind(&other), "posing").unwrap_err();
}

#[test]
fn a_session_is_never_taken_up_again_since_that_would_skip_the_certificate() {
    use std::io::Read;
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test authority").unwrap();
    let files = authority.provision(directory.path(), "a", &["a"]).unwrap();
    let credentials = Credentials::load(&files).unwrap();
    // A client that would, whatever ours do.
    let mut client = (*credentials.rustls_client(&[])).clone();
    client.resumption = rustls::client::Resumption::default();
    let client = std::sync::Arc::new(client);
    for server in [credentials.rustls_server(&[]), credentials.rustls_open_server(&[])] {
        for _ in 0..3 {
            let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
            let server = server.clone();
            let serve = std::thread::spawn(move || {
                let mut connection = rustls::ServerConnection::new(server).unwrap();
                let mut stream = rustls::Stream::new(&mut connection, &mut far);
                std::io::Write::write_all(&mut stream, &[1]).unwrap();
                connection.handshake_kind()
            });
            let mut connection =
                rustls::ClientConnection::new(client.clone(), "a".try_into().unwrap()).unwrap();
            let mut near = near;
            rustls::Stream::new(&mut connection, &mut near).read_exact(&mut [0]).unwrap();
            assert_eq!(serve.join().unwrap(), Some(rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn a_revocation_list_that_is_none_of_ours_or_has_run_out_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test authority").unwrap();
    let files = authority.provision(directory.path(), "host-a", &["host-a"]).unwrap();
    let crl = directory.path().join("ca.crl");
    let files = TlsFiles { crl: Some(crl.clone()), ..files };
    assert!(refusal(&files).contains("ca.crl: cannot read it"), "{}", refusal(&files));
    fs::write(&crl, "").unwrap();
    assert!(refusal(&files).contains("no revocation list in it"), "{}", refusal(&files));
    let day = Duration::from_secs(86_400);
    let strangers = Authority::generate("test authority").unwrap().revocation_list(&[], 1, day).unwrap();
    fs::write(&crl, strangers).unwrap();
    assert!(refusal(&files).contains("not signed by an authority in ca"), "{}", refusal(&files));
    fs::write(&crl, authority.revocation_list(&[], 1, Duration::from_secs(1)).unwrap()).unwrap();
    Credentials::load(&files).unwrap();
    let began = Instant::now();
    while Credentials::load(&files).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "the list never runs out");
        std::thread::yield_now();
    }
    assert!(refusal(&files).contains("the revocation list has run out"), "{}", refusal(&files));
}
