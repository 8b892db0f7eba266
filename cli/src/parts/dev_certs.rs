//! Certificates for development: gateway and broker prove themselves to each other from the first start, with nothing to
//! prepare.
//!
//! `dev-certs/` holds one folder per identity (`ca`, `broker`, `gateway-<id>`) with `cert.pem` and `key.pem`. A folder is
//! filled under another name, synced and renamed, so it is there whole or not at all; a start that finds one missing makes
//! it again. Without its authority no certificate is of use, so a new authority starts from nothing.
//!
//! Not for production: the authority's key lies beside what it signs.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use wire::ids::GatewayId;
use wire::time::UnixMs;

const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";
const AUTHORITY: &str = "ca";
const AUTHORITY_NAME: &str = "Culvert development CA";
const BROKER: &str = "broker";

/// The names and addresses the broker's certificate is for.
const BROKER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// How far validity starts in the past: clocks differ, and devices without one start at their build time.
const VALIDITY_BACKDATED: Duration = Duration::from_secs(24 * 3_600);

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevCerts {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The broker's certificate and key.
    pub broker: Identity,
    /// The gateway's certificate and key.
    pub gateway: Identity,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, readable by its owner only.
    pub key: PathBuf,
}

/// Finds the certificates in `folder` and makes those that are missing, valid from `now` on for ten years.
///
/// # Errors
/// If `gateway_id` cannot name a certificate and a folder, or the folder cannot be written.
pub fn prepare(folder: &Path, gateway_id: &str, now: UnixMs) -> Result<DevCerts> {
    check_gateway_id(gateway_id)?;
    let gateway = format!("gateway-{gateway_id}");
    let write = || -> Result<()> {
        if !is_whole(&folder.join(AUTHORITY)) {
            start_over(folder, now)?;
        }
        issue_missing(folder, BROKER, || broker_params(now))?;
        issue_missing(folder, &gateway, || gateway_params(gateway_id, now))
    };
    write().with_context(|| format!("development certificates in {}", folder.display()))?;
    Ok(DevCerts {
        authority: folder.join(AUTHORITY).join(CERTIFICATE_FILE),
        broker: Identity::of(&folder.join(BROKER)),
        gateway: Identity::of(&folder.join(gateway)),
    })
}

impl Identity {
    fn of(folder: &Path) -> Self {
        Self { certificate: folder.join(CERTIFICATE_FILE), key: folder.join(KEY_FILE) }
    }
}

fn check_gateway_id(gateway_id: &str) -> Result<()> {
    ensure!(
        GatewayId::new(gateway_id).is_some(),
        "--gateway-id: 1 to {} letters, digits, '-', '_' and '.', not {gateway_id:?}",
        GatewayId::LEN_MAX
    );
    Ok(())
}

fn start_over(folder: &Path, now: UnixMs) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    let key = KeyPair::generate()?;
    let certificate = authority_params(now).self_signed(&key)?;
    write_identity(folder, AUTHORITY, &certificate.pem(), &key)?;
    // The folder's own entry must survive a power cut too, or a later start would make another authority.
    sync_folder(folder.parent().unwrap_or(folder))?;
    Ok(())
}

fn issue_missing(
    folder: &Path,
    name: &str,
    params: impl FnOnce() -> Result<CertificateParams>,
) -> Result<()> {
    if is_whole(&folder.join(name)) {
        return Ok(());
    }
    let authority_key = fs::read_to_string(folder.join(AUTHORITY).join(KEY_FILE))?;
    // The issuer's name and key are all that a signature takes from the authority, and the name never changes.
    let issuer = Issuer::new(authority_params(UnixMs(0)), KeyPair::from_pem(&authority_key)?);
    let key = KeyPair::generate()?;
    let certificate = params()?.signed_by(&key, &issuer)?;
    write_identity(folder, name, &certificate.pem(), &key)?;
    Ok(())
}

fn is_whole(identity: &Path) -> bool {
    [CERTIFICATE_FILE, KEY_FILE].iter().all(|file| identity.join(file).is_file())
}

fn authority_params(now: UnixMs) -> CertificateParams {
    let mut params = named(AUTHORITY_NAME, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn broker_params(now: UnixMs) -> Result<CertificateParams> {
    let mut params = named(BROKER, now);
    params.subject_alt_names =
        CertificateParams::new(BROKER_NAMES.map(str::to_owned))?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn gateway_params(gateway_id: &str, now: UnixMs) -> Result<CertificateParams> {
    let mut params = named(gateway_id, now);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn named(common_name: &str, now: UnixMs) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let since_epoch = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(VALIDITY_BACKDATED);
    params.not_after = epoch + since_epoch + VALIDITY;
    params.use_authority_key_identifier_extension = true;
    params
}

fn write_identity(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> io::Result<()> {
    let target = folder.join(name);
    let unfinished = folder.join(format!("{name}.unfinished"));
    for left_over in [&unfinished, &target] {
        if left_over.exists() {
            fs::remove_dir_all(left_over)?;
        }
    }
    fs::create_dir(&unfinished)?;
    write_file(&unfinished.join(CERTIFICATE_FILE), certificate, 0o644)?;
    write_file(&unfinished.join(KEY_FILE), &key.serialize_pem(), 0o600)?;
    sync_folder(&unfinished)?;
    fs::rename(&unfinished, &target)?;
    sync_folder(folder)
}

fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
