//! A certificate that signs itself: the broker wants one for its uplink, which nothing here uses.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes both in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let signed = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        let made = Self { certificate: folder.join("broker.pem"), key: folder.join("broker.key") };
        std::fs::write(&made.certificate, signed.pem())?;
        std::fs::write(&made.key, key.serialize_pem())?;
        Ok(made)
    }
}
