//! TLS for listeners: certificates from files, client certificates, reading all of them anew while
//! connections go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::warn_if_others_may_read;
use crate::config::{Tls, TlsVersion, UserName};
use crate::reactor::TcpConnection;

mod ciphers;
mod dates;
mod identity;

use dates::AnyDate;

/// The TLS side of a listener. Its certificates can be read anew; connections keep theirs.
pub struct TlsServer {
    options: Tls,
    config: RwLock<Arc<ServerConfig>>,
}

/// What the files of a listener have now.
pub struct Certificates(Arc<ServerConfig>);

/// Why the certificates of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// A file has nothing of what it is for.
    #[error("{}: there is no {what} in it", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// What it should have.
        what: &'static str,
    },
    /// The certificates, keys or revocation lists do not fit together.
    #[error("{}: {reason}", file.display())]
    Unusable {
        /// The server's certificate, or the file with what is wrong.
        file: PathBuf,
        /// Why, as rustls says it.
        reason: String,
    },
}

impl TlsServer {
    /// Reads all files of a listener.
    ///
    /// # Errors
    /// For the first file that cannot be used. A file with authorities that has none is an error: an
    /// empty list must not mean that everybody is trusted.
    pub fn read(options: &Tls) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(server_config(options)?));
        Ok(Self { options: options.clone(), config })
    }

    /// Reads all files anew. The old ones stay in use until they are [replaced](Self::replace).
    ///
    /// # Errors
    /// As [`TlsServer::read`].
    pub fn read_anew(&self) -> Result<Certificates, TlsError> {
        server_config(&self.options).map(Arc::new).map(Certificates)
    }

    /// Uses what was read for connections that come from now on.
    pub fn replace(&self, Certificates(config): Certificates) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// When the client does not speak TLS, or shows no certificate where one is required.
    pub async fn accept(&self, stream: TcpConnection) -> io::Result<TlsStream<TcpConnection>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }

    /// The user name in the certificate of a client, where the listener takes it from there.
    ///
    /// # Errors
    /// When there is no name in the certificate that can be one.
    pub fn identity(&self, stream: &TlsStream<TcpConnection>) -> io::Result<Option<String>> {
        if self.options.user_name == UserName::Connect {
            return Ok(None);
        }
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let name = certificates
            .first()
            .and_then(|certificate| identity::user_name(certificate, self.options.user_name));
        match name {
            Some(name) => Ok(Some(name)),
            None => Err(io::Error::other("there is no user name in the client's certificate")),
        }
    }
}

fn server_config(options: &Tls) -> Result<ServerConfig, TlsError> {
    let versions: &[&SupportedProtocolVersion] = match options.minimum {
        TlsVersion::V1_2 => &[&version::TLS12, &version::TLS13],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let unusable = |error: rustls::Error| TlsError::Unusable {
        file: options.certificate.clone(),
        reason: error.to_string(),
    };
    let chain = certificates(&options.certificate)?;
    warn_if_others_may_read(&options.key);
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(|error| {
        let file = options.key.clone();
        match error {
            pem::Error::NoItemsFound => TlsError::Empty { file, what: "key without passphrase" },
            error => TlsError::File { file, error },
        }
    })?;
    let provider =
        CryptoProvider { cipher_suites: ciphers::suites(options), ..ring::default_provider() };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = if options.require_certificate {
        builder.with_client_cert_verifier(client_verifier(options)?)
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(chain, key).map_err(unusable)
}

fn client_verifier(options: &Tls) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for file in &options.client_authorities {
        for certificate in authorities(file)? {
            roots.add(certificate).map_err(|error| TlsError::Unusable {
                file: file.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        ring::default_provider().into(),
    );
    if let Some(file) = &options.revocations {
        // As Mosquitto does it: the client's own certificate is looked up, not its authorities.
        builder = builder.with_crls(revocations(file)?).only_check_end_entity_revocation();
    }
    let verifier = builder.build().map_err(|error| TlsError::Unusable {
        file: options.client_authorities.first().cloned().unwrap_or_default(),
        reason: error.to_string(),
    })?;
    Ok(if options.ignore_dates { Arc::new(AnyDate::new(verifier)) } else { verifier })
}

/// The certificates of a file, of which there must be one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::File { file: file.to_owned(), error };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    match certificates.is_empty() {
        true => Err(TlsError::Empty { file: file.to_owned(), what: "certificate" }),
        false => Ok(certificates),
    }
}

/// The certificates of a file, or of all files of a folder (`capath`).
fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if !path.is_dir() {
        return certificates(path);
    }
    let failed = |error| TlsError::File { file: path.to_owned(), error: pem::Error::Io(error) };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        // Keys and notes may lie beside the certificates.
        if file.is_file() {
            found.extend(certificates(&file).unwrap_or_default());
        }
    }
    match found.is_empty() {
        true => Err(TlsError::Empty { file: path.to_owned(), what: "certificate" }),
        false => Ok(found),
    }
}

fn revocations(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let failed = |error| TlsError::File { file: file.to_owned(), error };
    let lists: Vec<_> = CertificateRevocationListDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    match lists.is_empty() {
        true => Err(TlsError::Empty { file: file.to_owned(), what: "revocation list" }),
        false => Ok(lists),
    }
}
