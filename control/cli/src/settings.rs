//! Where the service is and who we are to it: flags, then environment, then configuration files.

use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Uri;
use serde::Deserialize;

/// The system's configuration file; the user's own comes before it.
const SYSTEM_FILE: &str = "/etc/overlane/cli.toml";

/// Connection settings of the command line and the environment.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection (also in ~/.config/overlane/cli.toml and /etc/overlane/cli.toml)")]
pub struct Connection {
    /// Address of the service's API.
    #[arg(help = "Address of the service's API, like https://control.example.net:9443")]
    #[arg(long, global = true, value_name = "URL", env = "OVERLANE_API", hide_env_values = true)]
    pub api: Option<String>,

    /// Certificate of the authority that vouches for the service (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "OVERLANE_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,

    /// Our own certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "OVERLANE_CERT", hide_env_values = true)]
    pub cert: Option<PathBuf>,

    /// The key of our own certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "OVERLANE_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,

    /// A file with the token that we are known by, instead of a certificate or beside it; nobody else may read it
    #[arg(long, global = true, value_name = "FILE", env = "OVERLANE_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,

    /// Revocation lists of that authority; a service whose certificate is on one is refused (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "OVERLANE_CRL", hide_env_values = true)]
    pub crl: Option<PathBuf>,

    /// Speak to a service without TLS, on this machine alone: --api http://127.0.0.1:PORT
    #[arg(long, global = true, env = "OVERLANE_INSECURE", hide_env_values = true)]
    pub insecure: bool,

    /// Name in the service's certificate, where it is not the name in the URL
    #[arg(long, global = true, value_name = "NAME", env = "OVERLANE_SERVER_NAME", hide_env_values = true)]
    pub server_name: Option<String>,

    /// Read this file and no other
    #[arg(long, global = true, value_name = "FILE", env = "OVERLANE_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// Everything needed to speak to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Scheme `https`, a host, perhaps a port; no path. Scheme `http` and a loopback address without TLS.
    pub api: Uri,
    /// PEM file of the authority that vouches for the service; `None`: without TLS.
    pub ca: Option<PathBuf>,
    /// PEM files of our own certificate and its key; there is a token file if not.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// File with our token.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority's revocation lists.
    pub crl: Option<PathBuf>,
    /// Name expected in the service's certificate; the URL's host if none.
    pub server_name: Option<String>,
}

/// Settings that make no sense; says which and what would.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Given nowhere.
    #[error(
        "{what} is not set: give --{flag} {example}, set {env}, or write `{key} = \"{example}\"` into \
         ~/.config/overlane/cli.toml or {SYSTEM_FILE}"
    )]
    Missing {
        /// In words.
        what: &'static str,
        /// Without the dashes.
        flag: &'static str,
        /// The variable that sets it.
        env: &'static str,
        /// Its name in a configuration file.
        key: &'static str,
        /// A legal value.
        example: &'static str,
    },
    /// Given, and not legal.
    #[error("{setting}: {value:?} is not {legal}")]
    Invalid {
        /// Which setting.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What is legal.
        legal: &'static str,
    },
    /// A configuration file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration file that does not say what it may.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Where in it, and what is wrong.
        source: Box<toml::de::Error>,
    },
    /// A token file that cannot be used.
    #[error("{}: {problem}", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A TLS file that cannot be used.
    #[error(transparent)]
    Tls(#[from] overlane_api::tls::TlsError),
}

/// What a configuration file may say. Relative paths are relative to the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    api: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
    crl: Option<PathBuf>,
    insecure: Option<bool>,
    server_name: Option<String>,
}

impl File {
    fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let mut file: Self = toml::from_str(&text)
            .map_err(|source| SettingsError::File { path: path.to_owned(), source: Box::new(source) })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let paths = [&mut file.ca, &mut file.cert, &mut file.key, &mut file.token_file, &mut file.crl];
        for path in paths.into_iter().flatten() {
            *path = directory.join(&path);
        }
        Ok(file)
    }

    /// The first file that sets something wins; files that are not there are passed over.
    fn read_all(paths: &[PathBuf]) -> Result<Self, SettingsError> {
        let mut all = Self::default();
        for path in paths {
            match Self::read(path) {
                Ok(file) => all = all.or(file),
                Err(SettingsError::Unreadable { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// What this file leaves open is taken from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            api: self.api.or(other.api),
            ca: self.ca.or(other.ca),
            cert: self.cert.or(other.cert),
            key: self.key.or(other.key),
            token_file: self.token_file.or(other.token_file),
            crl: self.crl.or(other.crl),
            insecure: self.insecure.or(other.insecure),
            server_name: self.server_name.or(other.server_name),
        }
    }
}

impl Connection {
    /// Completes what flags and environment say with the configuration files.
    ///
    /// # Errors
    /// A setting that is missing or not legal, a file that cannot be read or understood.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        match &self.config {
            Some(path) => self.complete(File::read(path)?),
            None => self.complete(File::read_all(&default_files())?),
        }
    }

    fn complete(&self, file: File) -> Result<Settings, SettingsError> {
        let given = File {
            api: self.api.clone(),
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            token_file: self.token_file.clone(),
            crl: self.crl.clone(),
            insecure: self.insecure.then_some(true),
            server_name: self.server_name.clone(),
        };
        let all = given.or(file);
        let missing =
            |what, flag, env, example| SettingsError::Missing { what, flag, env, key: flag, example };
        let api = all.api.ok_or_else(|| {
            missing("the address of the service", "api", "OVERLANE_API", "https://control.example.net:9443")
        })?;
        if all.insecure == Some(true) {
            let (api, token_file) = (parse_insecure(&api)?, all.token_file);
            return Ok(Settings {
                api,
                ca: None,
                certificate: None,
                token_file,
                crl: None,
                server_name: None,
            });
        }
        let ca = || missing("the authority's certificate", "ca", "OVERLANE_CA", "/etc/overlane/pki/ca.crt");
        let cert = || {
            missing(
                "our certificate (or a token: --token-file)",
                "cert",
                "OVERLANE_CERT",
                "/etc/overlane/pki/operator.crt",
            )
        };
        let key =
            || missing("our certificate's key", "key", "OVERLANE_KEY", "/etc/overlane/pki/operator.key");
        Ok(Settings {
            api: parse_api(&api)?,
            ca: Some(all.ca.ok_or_else(ca)?),
            certificate: match (all.cert, all.key) {
                (None, None) if all.token_file.is_some() => None,
                (certificate, is_key) => Some((certificate.ok_or_else(cert)?, is_key.ok_or_else(key)?)),
            },
            token_file: all.token_file,
            crl: all.crl,
            server_name: all.server_name,
        })
    }
}

fn default_files() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let user = user.map(|directory| directory.join("overlane/cli.toml"));
    user.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

fn parse_api(value: &str) -> Result<Uri, SettingsError> {
    let legal =
        "an address like https://control.example.net:9443 or https://[fd00::1]:9443 (https, a host, no path)";
    value
        .parse::<Uri>()
        .ok()
        .filter(|uri| {
            uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none()
        })
        .filter(|uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@')))
        .ok_or_else(|| SettingsError::Invalid { setting: "api", value: value.to_owned(), legal })
}

/// As [`parse_api`], without TLS: nobody else may listen.
fn parse_insecure(value: &str) -> Result<Uri, SettingsError> {
    let legal = "with insecure: http://127.0.0.1:PORT or http://[::1]:PORT";
    let is_here = |uri: &Uri| {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        uri.scheme_str() == Some("http")
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    value.parse::<Uri>().ok().filter(is_here).ok_or_else(|| SettingsError::Invalid {
        setting: "api",
        value: value.to_owned(),
        legal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    const WHOLE: &str =
        "api = 'https://control:9443'\nca = 'ca.pem'\ncert = 'me.pem'\nkey = '/keys/me.key'\n";

    #[test]
    fn flags_come_before_the_users_file_which_comes_before_the_systems() {
        let directory = tempfile::tempdir().unwrap();
        let user = write(directory.path(), "user.toml", "cert = 'mine.pem'\n");
        let system = write(directory.path(), "system.toml", WHOLE);
        let absent = directory.path().join("absent.toml");
        let connection = Connection { key: Some("given.key".into()), ..Connection::default() };
        let file = File::read_all(&[absent, user, system]).unwrap();
        let settings = connection.complete(file).unwrap();
        assert_eq!(settings.api, "https://control:9443/");
        assert_eq!(settings.ca, Some(directory.path().join("ca.pem")), "relative to the file that says so");
        assert_eq!(settings.certificate, Some((directory.path().join("mine.pem"), "given.key".into())));
        assert_eq!(settings.token_file, None);
        assert_eq!(settings.server_name, None);
    }

    #[test]
    fn what_is_missing_is_named_with_every_way_to_set_it() {
        let error = Connection::default().complete(File::default()).unwrap_err().to_string();
        for part in ["--api", "OVERLANE_API", "`api = ", "~/.config/overlane/cli.toml", SYSTEM_FILE] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_token_does_instead_of_a_certificate_but_half_a_certificate_does_not() {
        let given = |cert: Option<&str>, token: Option<&str>| Connection {
            api: Some("https://control".to_owned()),
            ca: Some("ca.pem".into()),
            cert: cert.map(PathBuf::from),
            token_file: token.map(PathBuf::from),
            ..Connection::default()
        };
        let settings = given(None, Some("token")).complete(File::default()).unwrap();
        assert_eq!((settings.certificate, settings.token_file), (None, Some("token".into())));
        for (cert, token, said) in [(None, None, "--token-file"), (Some("me.pem"), Some("token"), "--key")] {
            let error = given(cert, token).complete(File::default()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_legal_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), "cli.toml", "api = 'https://a'\ncerts = 'x'\n");
        let connection = Connection { config: Some(path.clone()), ..Connection::default() };
        let error = connection.settings().unwrap_err().to_string();
        for part in [path.to_str().unwrap(), "line 2", "certs", "server_name"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_file_named_by_the_user_must_be_there() {
        let connection = Connection { config: Some("/nowhere/cli.toml".into()), ..Connection::default() };
        let error = connection.settings().unwrap_err();
        assert!(matches!(error, SettingsError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn without_tls_only_this_machine_is_an_api() {
        let given =
            |api: &str| Connection { api: Some(api.to_owned()), insecure: true, ..Connection::default() };
        for good in ["http://127.0.0.1:9443", "http://[::1]:9443/"] {
            let settings = given(good).complete(File::default()).unwrap();
            assert_eq!((settings.ca, settings.certificate), (None, None), "{good}");
        }
        for bad in
            ["https://127.0.0.1:9443", "http://10.0.0.1:9443", "http://localhost:9443", "http://control"]
        {
            let error = given(bad).complete(File::default()).unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:PORT"), "{error}");
        }
    }

    #[test]
    fn only_an_https_address_without_a_path_is_an_api() {
        for good in
            ["https://control", "https://control:9443/", "https://[fd00::1]:9443", "https://10.0.0.1:1"]
        {
            assert!(parse_api(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "control",
            "control:9443",
            "http://control",
            "https://",
            "https://a/v1",
            "https://u@a",
            "https://a/?b",
        ] {
            let error = parse_api(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("api: ") && error.contains("https://control.example.net:9443"),
                "{error}"
            );
        }
    }
}
