//! The gateway's certificate, and the broker's that it accepts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use wire::ids::GatewayId;

/// Why TLS cannot be set up: the operator must mend the files.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is not there or not PEM of the right kind.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The certificate names no gateway.
    #[error(
        "{}: the certificate's common name {name:?} is no gateway id (1 to 64 of A-Z a-z 0-9 . _ -)",
        path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// Its common name.
        name: String,
    },
    /// Certificate and key do not go together, or rustls does not take them.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// No cipher suite for QUIC.
    #[error("TLS: {0}")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Where the PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that may sign the broker's.
    pub ca: PathBuf,
    /// The gateway's certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What the uplink needs of them.
#[derive(Clone)]
pub struct Identity {
    /// The gateway's name, from its certificate.
    pub gateway: GatewayId,
    /// For quinn.
    pub crypto: Arc<quinn::crypto::rustls::QuicClientConfig>,
}

/// Reads the files: TLS 1.3 only, the gateway's certificate for client authentication.
///
/// # Errors
/// [`TlsError`].
pub fn load(files: &TlsFiles) -> Result<Identity, TlsError> {
    let chain = certificates(&files.cert)?;
    let gateway = gateway_id(&files.cert, chain.first())?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| file(&files.key, &e))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![wire::uplink::ALPN.to_vec()];
    Ok(Identity { gateway, crypto: Arc::new(config.try_into()?) })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file(path, &error))?;
    if found.is_empty() {
        return Err(file(path, &"holds no certificate"));
    }
    Ok(found)
}

fn gateway_id(path: &Path, leaf: Option<&CertificateDer<'_>>) -> Result<GatewayId, TlsError> {
    let leaf = leaf.ok_or_else(|| file(path, &"holds no certificate"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|e| file(path, &e))?;
    let name = parsed.subject().iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
    GatewayId::new(name)
        .ok_or_else(|| TlsError::Name { path: path.to_owned(), name: name.to_owned() })
}

fn file(path: &Path, detail: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), detail: detail.to_string() }
}
