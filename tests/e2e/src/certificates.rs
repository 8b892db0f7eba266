//! Certificates as an operator would make them: an authority, and what it signs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// An authority of a test.
pub struct Authority {
    folder: PathBuf,
    name: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub certificate: PathBuf,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority whose files are in `folder`, beginning with `name`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let certificate = folder.join(format!("{name}.pem"));
        std::fs::write(&certificate, issuer.pem())?;
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), issuer, certificate })
    }

    /// A broker's certificate, for this machine.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn broker(&self) -> Result<Identity> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("broker");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("broker", &params)
    }

    /// The certificate of the gateway called `id`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn gateway(&self, id: &str) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(id);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(id, &params)
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = |kind: &str| self.folder.join(format!("{}-{name}.{kind}.pem", self.name));
        let identity = Identity { certificate: path("cert"), key: path("key") };
        std::fs::write(&identity.certificate, certificate.pem())?;
        std::fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
