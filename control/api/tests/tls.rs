//! Certificates made here work with the TLS set-up made here, and bad files are refused by name.

use overlane_api::pki::Authority;
use overlane_api::tls::{Credentials, TlsFiles, dns_names};
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
