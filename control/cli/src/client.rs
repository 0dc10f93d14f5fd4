//! The HTTP API's client: JSON over TLS, one connection kept. Who we are is said by our certificate, by a token, or both.

use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use overlane_api::resource::{ErrorBody, ErrorDetail};
use overlane_api::tls::{Credentials, TlsFiles, anonymous_client, trusting_nobody};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output::printable;
use crate::settings::{Settings, SettingsError};
use crate::token;

/// How long one request may take, connecting and answer included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long connecting alone may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes. A full page of the largest resources stays far below.
const ANSWER_LIMIT: usize = 16 << 20;

/// Why the service did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It understood and said no.
    #[error("{}", render(error, *status))]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Its reason: field and legal values.
        error: Box<ErrorDetail>,
    },
    /// There was no connection, or it broke.
    #[error("cannot reach the service at {api}")]
    Unreachable {
        /// Where it should be.
        api: String,
        /// What happened.
        source: hyper_util::client::legacy::Error,
    },
    /// No answer in time.
    #[error("the service at {api} did not answer within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// Where it should be.
        api: String,
    },
    /// An answer that is none of the API's.
    #[error("the service at {api} gave an answer that is not the API's ({status}): {problem}")]
    NotTheApi {
        /// Where it came from.
        api: String,
        /// The HTTP status.
        status: StatusCode,
        /// What is wrong with it.
        problem: String,
    },
}

impl Failure {
    /// Whether the service says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether the service was just not there: it may be back in a moment.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}

/// What a refusal tells an operator: what is wrong, in which field, and what would be right.
fn render(error: &ErrorDetail, status: StatusCode) -> String {
    let mut text = format!("the service refused ({}): {}", status.as_u16(), printable(&error.message));
    for (name, value) in [("field", &error.field), ("legal", &error.legal)] {
        if let Some(value) = value {
            text.push_str(&format!("\n  {name}: {}", printable(value)));
        }
    }
    text
}

/// Speaks to one service.
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    api: String,
    /// `Bearer …`, if we have a token.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Reads the TLS files; connects only when something is asked.
    ///
    /// # Errors
    /// A TLS file that cannot be used, or an illegal server name.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let tls = match (&settings.ca, &settings.certificate) {
            (Some(ca), Some((certificate, key))) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                let (ca, crl) = (ca.clone(), settings.crl.clone());
                Credentials::load(&TlsFiles { ca, certificate, key, crl })?.rustls_client(&[])
            }
            (Some(ca), None) => anonymous_client(ca, settings.crl.as_deref())?,
            (None, _) => trusting_nobody()?,
        };
        let authorization = settings.token_file.as_deref().map(token::authorization).transpose()?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = tls.as_ref().clone();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let builder = if settings.ca.is_some() { builder.https_only() } else { builder.https_or_http() };
        let builder = match &settings.server_name {
            None => builder,
            Some(name) => {
                let name = name.clone().try_into().map_err(|_| SettingsError::Invalid {
                    setting: "server_name",
                    value: name.clone(),
                    legal: "a DNS name or an IP address",
                })?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
        };
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .build(builder.enable_http1().wrap_connector(tcp));
        Ok(Self { http, api: settings.api.to_string().trim_end_matches('/').to_owned(), authorization })
    }

    /// Reads what is at `path` (like `/v1/nodes/web`).
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let (status, body) = self.request(Method::GET, path, Bytes::new()).await?;
        self.understand(status, &body)
    }

    /// Writes `value` at `path`; true if it was not there before.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<(bool, T), Failure> {
        let (status, body) = self.request(Method::PUT, path, self.encode(value)?).await?;
        Ok((status == StatusCode::CREATED, self.understand(status, &body)?))
    }

    /// Asks `path` to do something with `value`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, value: &impl Serialize) -> Result<T, Failure> {
        let (status, body) = self.request(Method::POST, path, self.encode(value)?).await?;
        self.understand(status, &body)
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.request(Method::DELETE, path, Bytes::new()).await.map(|_| ())
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Failure> {
        match tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Timeout { api: self.api.clone() }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let uri = format!("{}{path}", self.api);
        let not_the_api = |status, problem| Failure::NotTheApi { api: self.api.clone(), status, problem };
        let uri: Uri = uri
            .parse()
            .map_err(|error| not_the_api(StatusCode::BAD_REQUEST, format!("no address {uri}: {error}")))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body));
        let mut request = request.map_err(|error| not_the_api(StatusCode::BAD_REQUEST, error.to_string()))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let unreachable = |source| Failure::Unreachable { api: self.api.clone(), source };
        let response = self.http.request(request).await.map_err(unreachable)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|error| {
            let problem = match error.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("longer than {ANSWER_LIMIT} bytes"),
                None => format!("it broke off: {error}"),
            };
            not_the_api(status, problem)
        })?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok((status, body));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(refusal) => Err(Failure::Refused { status, error: Box::new(refusal.error) }),
            Err(_) => Err(not_the_api(status, excerpt(&body))),
        }
    }

    fn encode(&self, value: &impl Serialize) -> Result<Bytes, Failure> {
        serde_json::to_vec(value).map(Bytes::from).map_err(|error| Failure::NotTheApi {
            api: self.api.clone(),
            status: StatusCode::BAD_REQUEST,
            problem: error.to_string(),
        })
    }

    fn understand<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| Failure::NotTheApi {
            api: self.api.clone(),
            status,
            problem: format!("{error} in {}", excerpt(body)),
        })
    }
}

/// The beginning of an answer, fit for a terminal.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body));
    format!("{text:?}")
}
