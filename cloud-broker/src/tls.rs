//! TLS of the uplink: the broker's own certificate, the authority that gateways' certificates come from, and the gateway
//! id in a gateway's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use wire::ids::GatewayId;
use wire::uplink::ALPN;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where the certificates are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The broker's certificate, then those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates that gateways' certificates must be signed by.
    pub client_ca: PathBuf,
}

/// Why TLS is not possible: the operator must mend the named file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read, or has nothing of what is wanted.
    #[error("{setting}: {}: {detail}", path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Certificate, key and authority do not go together.
    #[error("tls_cert, tls_key, tls_client_ca: {0}")]
    Unusable(String),
}

/// The uplink's TLS 1.3 settings: mutual certificates, no early data.
pub(crate) fn server_config(files: &TlsFiles) -> Result<QuicServerConfig, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", &files.client_ca)? {
        roots.add(certificate).map_err(|e| unusable(&e))?;
    }
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| unusable(&e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        setting: "tls_key",
        path: files.key.clone(),
        detail: error.to_string(),
    })?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("tls_cert", &files.cert)?, key)
        .map_err(|e| unusable(&e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    QuicServerConfig::try_from(config).map_err(|e| unusable(&e))
}

/// The gateway that a certificate names: its common name, or else its first DNS name. `None` if neither is a gateway id.
pub(crate) fn gateway_of(certificate: &CertificateDer<'_>) -> Option<GatewayId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let common_name = certificate.subject().iter_common_name().next();
    if let Some(name) = common_name.and_then(|name| name.as_str().ok()) {
        return GatewayId::new(name);
    }
    let names = certificate.subject_alternative_name().ok()??;
    let mut dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    GatewayId::new(dns.next()?)
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |detail: String| TlsError::File { setting, path: path.to_owned(), detail };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?.collect();
    let found = found.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(common_name: Option<&str>, dns: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_common_name_counts_and_else_the_first_dns_name() {
        for (common_name, dns, expected) in [
            (Some("plant-1"), &["other.example"][..], Some("plant-1")),
            (Some("plant-1"), &[], Some("plant-1")),
            (None, &["gw.example", "x.example"], Some("gw.example")),
            (Some("not an id"), &["gw.example"], None),
            (None, &[], None),
        ] {
            let found = gateway_of(&certificate(common_name, dns));
            assert_eq!(found.as_ref().map(GatewayId::as_str), expected);
        }
        assert_eq!(gateway_of(&CertificateDer::from(vec![0x30])), None);
    }

    #[test]
    fn a_missing_or_empty_file_is_named_with_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let files = TlsFiles { cert: empty.clone(), key: empty.clone(), client_ca: empty };
        let error = server_config(&files).err().unwrap().to_string();
        assert!(error.starts_with("tls_client_ca: "), "{error}");
        assert!(error.ends_with("empty.pem: no certificate in it"), "{error}");
    }
}
