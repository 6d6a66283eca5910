//! TLS by rustls.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Timeouts, Transport};
use crate::endpoint::Endpoint;
use crate::error::{ConfigError, ConnectionError, Step};

/// How to trust a broker, and what to show it: [`Builder::tls`](crate::Builder::tls).
///
/// The files are read when the client is made. PEM and DER are told apart by their contents.
///
/// ```
/// use mqtt_client::Tls;
///
/// let tls = Tls::ca_file("ca.pem").client_certificate("device.pem", "device.key");
/// # let _ = tls;
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    roots: Roots,
    identity: Option<(PathBuf, PathBuf)>,
    alpn: Vec<Vec<u8>>,
    server_name: Option<String>,
    checks: Checks,
}

#[derive(Clone, Debug)]
enum Roots {
    System,
    Files(Vec<PathBuf>),
    Config(Arc<ClientConfig>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    All,
    NoName,
    None,
}

impl Tls {
    /// Trusts the certificate authorities that the system trusts.
    pub fn system_roots() -> Self {
        Self {
            roots: Roots::System,
            identity: None,
            alpn: Vec::new(),
            server_name: None,
            checks: Checks::All,
        }
    }

    /// Trusts the certificate authorities in this file and no others. May be called again for more
    /// files through [`and_ca_file`](Self::and_ca_file).
    pub fn ca_file(path: impl Into<PathBuf>) -> Self {
        Self { roots: Roots::Files(vec![path.into()]), ..Self::system_roots() }
    }

    /// Uses a configuration of rustls as it is; only the name of the server is still ours.
    pub fn config(config: Arc<ClientConfig>) -> Self {
        Self { roots: Roots::Config(config), ..Self::system_roots() }
    }

    /// Trusts the certificate authorities in this file too; after
    /// [`system_roots`](Self::system_roots), these instead.
    #[must_use]
    pub fn and_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        match &mut self.roots {
            Roots::Files(files) => files.push(path.into()),
            Roots::System | Roots::Config(_) => self.roots = Roots::Files(vec![path.into()]),
        }
        self
    }

    /// Shows this certificate, with the chain that belongs to it, to the broker.
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// Offers these protocols, as AWS IoT asks for on port 443 (`x-amzn-mqtt-ca`).
    #[must_use]
    pub fn alpn<'a>(mut self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        self.alpn = protocols.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// The name that the certificate has to be for, if it is not the host of the URL.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Accepts a trusted certificate whatever name it is for: anyone who has any certificate of the
    /// authority can then pose as the broker.
    #[must_use]
    pub fn danger_accept_any_name(mut self) -> Self {
        self.checks = Checks::NoName;
        self
    }

    /// Accepts every certificate: the connection is encrypted, and anyone on the way can read and
    /// change it all the same.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.checks = Checks::None;
        self
    }

    /// Reads the files.
    pub(crate) fn build(&self) -> Result<Connector, ConfigError> {
        let config = match &self.roots {
            Roots::Config(config) => config.clone(),
            _ => Arc::new(self.client_config()?),
        };
        let server_name = match &self.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| tls_error(format!("{name:?} is not the name of a server")))?,
            ),
            None => None,
        };
        Ok(Connector { tls: config.into(), server_name })
    }

    fn client_config(&self) -> Result<ClientConfig, ConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| tls_error(error.to_string()))?;
        let builder = match self.checks {
            Checks::All => builder.with_root_certificates(self.root_store()?),
            Checks::NoName => {
                let roots = Arc::new(self.root_store()?);
                let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| tls_error(error.to_string()))?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(inner)))
            }
            Checks::None => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything(provider)))
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(certificates(chain)?, private_key(key)?)
                .map_err(|error| {
                    tls_error(format!("{} and {}: {error}", chain.display(), key.display()))
                })?,
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }

    fn root_store(&self) -> Result<RootCertStore, ConfigError> {
        let mut store = RootCertStore::empty();
        match &self.roots {
            Roots::Files(files) => {
                for file in files {
                    for certificate in certificates(file)? {
                        store
                            .add(certificate)
                            .map_err(|error| tls_error(format!("{}: {error}", file.display())))?;
                    }
                }
            }
            Roots::System | Roots::Config(_) => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    let reason = found.errors.first().map(ToString::to_string).unwrap_or_default();
                    return Err(tls_error(format!(
                        "the system has no certificate authorities; name a file. {reason}"
                    )));
                }
            }
        }
        Ok(store)
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::system_roots()
    }
}

/// TLS that is ready to be used.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    pub(super) async fn open<T: Transport>(
        &self,
        to: &Endpoint,
        io: T,
        limits: &Timeouts,
    ) -> Result<TlsStream<T>, ConnectionError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(to.host.clone())
                .map_err(|_| ConnectionError::Tls("the host is not a name or address".into()))?,
        };
        match tokio::time::timeout(limits.tls, self.tls.connect(name, io)).await {
            Ok(Ok(stream)) => Ok(stream),
            // What rustls says comes wrapped; anything else is the network.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ConnectionError::Tls(error.to_string().into()))
            }
            Ok(Err(error)) => Err(ConnectionError::io(Step::TlsHandshake, error)),
            Err(_) => Err(ConnectionError::Timeout(Step::TlsHandshake)),
        }
    }
}

fn tls_error(reason: String) -> ConfigError {
    ConfigError::Tls(reason.into())
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| tls_error(format!("{}: {error}", path.display())))
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bytes = read(path)?;
    if !is_pem(&bytes) {
        return Ok(vec![bytes.into()]);
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(tls_error(format!("{}: there is no certificate in it", path.display())))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(tls_error(format!("{}: {error}", path.display()))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let bytes = read(path)?;
    let failed = |error: &dyn fmt::Display| tls_error(format!("{}: {error}", path.display()));
    match is_pem(&bytes) {
        true => PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => failed(&"there is no key without passphrase in it"),
            error => failed(&error),
        }),
        false => PrivateKeyDer::try_from(bytes).map_err(|error| failed(&error)),
    }
}

/// All checks but the one of the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last: who gets there has passed everything else.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// No check at all, but that the broker has the key of the certificate it shows.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
