//! `overlane pki`, on a directory of its own.

use overlane_api::tls::{Credentials, Standing, TlsFiles};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Runs `overlane pki` on a directory; whether it succeeded, and all it said.
fn pki(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_overlane"));
    let output = command.arg("pki").arg("--directory").arg(directory).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn done(directory: &Path, arguments: &[&str]) -> String {
    let (success, said) = pki(directory, arguments);
    assert!(success, "{arguments:?}: {said}");
    said
}

#[track_caller]
fn refused(directory: &Path, arguments: &[&str], why: &str) {
    let (success, said) = pki(directory, arguments);
    assert!(!success && said.contains(why), "{arguments:?}: {said}");
}

fn files(directory: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        ca: directory.join("ca.crt"),
        certificate: directory.join(format!("{name}.crt")),
        key: directory.join(format!("{name}.key")),
        crl: Some(directory.join("ca.crl")),
    }
}

/// Whether the service would let in who has this certificate.
fn is_let_in(directory: &Path, name: &str) -> bool {
    let service = Credentials::load(&files(directory, "control")).unwrap();
    let certificate = CertificateDer::from_pem_file(directory.join(format!("{name}.crt"))).unwrap();
    service.standing(&[certificate]) == Standing::Good
}

#[test]
fn certificates_are_issued_renewed_and_revoked() {
    let place = tempfile::tempdir().unwrap();
    let directory = &place.path().join("pki");
    refused(directory, &["list"], "`overlane pki init` makes one");
    done(directory, &["init"]);
    refused(directory, &["init"], "an authority is never overwritten");
    for (file, mode) in [("ca.key", 0o600), ("ca.crt", 0o644), ("ca.crl", 0o644)] {
        let found = fs::metadata(directory.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    done(directory, &["issue", "control", "--kind", "service", "--san", "127.0.0.1"]);
    done(directory, &["issue", "host-a", "--kind", "host"]);
    assert_eq!(fs::metadata(directory.join("host-a.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Credentials::load(&files(directory, "host-a")).unwrap().names(), ["host-a"]);
    assert!(is_let_in(directory, "host-a"));
    refused(directory, &["issue", "host-a", "--kind", "host"], "`overlane pki renew host-a` replaces it");
    // The old one stays good, the new one is another.
    fs::copy(directory.join("host-a.crt"), directory.join("old.crt")).unwrap();
    done(directory, &["renew", "host-a", "--days", "7"]);
    assert!(is_let_in(directory, "host-a") && is_let_in(directory, "old"));
    assert_ne!(fs::read(directory.join("host-a.crt")).unwrap(), fs::read(directory.join("old.crt")).unwrap());
    done(directory, &["renew", "host-a", "--revoke"]);
    assert!(is_let_in(directory, "host-a") && !is_let_in(directory, "old"));
    done(directory, &["revoke", "host-a"]);
    assert!(!is_let_in(directory, "host-a"));
    refused(directory, &["revoke", "host-a"], "no certificate of that name or serial number is valid");
    done(directory, &["crl", "--days", "3"]);
    assert!(!is_let_in(directory, "host-a"), "a new list forgets nothing");
    let all = done(directory, &["list"]);
    assert_eq!((all.matches("revoked ").count(), all.matches("valid").count()), (3, 1), "{all}");
}

#[test]
fn what_is_no_name_or_no_one_of_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path();
    done(directory, &["init", "--name", "site"]);
    for name in ["ca", ".hidden", "a/b", "a b", ""] {
        refused(directory, &["issue", name, "--kind", "host"], "name: must be");
    }
    refused(directory, &["renew", "nobody"], "no certificate of that name was issued");
    refused(directory, &["revoke", "nobody"], "no certificate of that name");
    refused(directory, &["revoke", "--serial", "12"], "32 hexadecimal digits");
    refused(directory, &["issue", "a", "--kind", "king"], "possible values: host, service, operator");
    refused(directory, &["issue", "a", "--kind", "host", "--days", "0"], "--days");
}
