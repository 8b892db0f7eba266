use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn roots(certs: &DevCerts) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&certs.authority)).unwrap();
    Arc::new(roots)
}

fn at(seconds_after_now: i64) -> UnixTime {
    let seconds = NOW.0 / 1_000 + seconds_after_now;
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
}

fn verify_broker(certs: &DevCerts, name: &str, time: UnixTime) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(certs), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let presented = certificate(&certs.broker.certificate);
    verifier.verify_server_cert(&presented, &[], &name, &[], time).map(|_| ())
}

fn verify_gateway(certs: &DevCerts, presented: &Path) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(certs), provider).build().unwrap();
    verifier.verify_client_cert(&certificate(presented), &[], at(0)).map(|_| ())
}

fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

#[test]
fn both_sides_accept_each_other_for_ten_years() {
    let root = tempfile::tempdir().unwrap();
    let certs = prepare(&root.path().join("dev-certs"), "gateway", NOW).unwrap();
    for name in BROKER_NAMES {
        verify_broker(&certs, name, at(0)).unwrap();
    }
    let year = 365 * 24 * 3_600;
    verify_broker(&certs, "localhost", at(-3_600)).unwrap();
    verify_broker(&certs, "localhost", at(10 * year - 60)).unwrap();
    assert!(matches!(
        verify_broker(&certs, "localhost", at(10 * year + 60)),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ))
    ));
    assert!(verify_broker(&certs, "example.org", at(0)).is_err());
    verify_gateway(&certs, &certs.gateway.certificate).unwrap();
    assert!(
        verify_gateway(&certs, &certs.broker.certificate).is_err(),
        "a broker's certificate is not a gateway's"
    );
}

#[test]
fn a_later_start_reuses_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev-certs");
    let first = prepare(&folder, "gateway", NOW).unwrap();
    let before = content(&folder);
    assert_eq!(before.len(), 6);
    let later = UnixMs(NOW.0 + 86_400_000);
    assert_eq!(prepare(&folder, "gateway", later).unwrap(), first);
    assert_eq!(content(&folder), before);
}

#[test]
fn another_gateway_id_gets_its_own_certificate_from_the_same_authority() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev-certs");
    let first = prepare(&folder, "one", NOW).unwrap();
    let before = content(&folder);
    let second = prepare(&folder, "two", NOW).unwrap();
    assert_eq!(first.authority, second.authority);
    verify_gateway(&first, &second.gateway.certificate).unwrap();
    verify_gateway(&second, &first.gateway.certificate).unwrap();
    let after = content(&folder);
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
}

#[test]
fn keys_are_for_their_owner_only() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev-certs");
    prepare(&folder, "gateway", NOW).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for path in content(&folder).keys() {
        let key = path.ends_with(KEY_FILE);
        assert_eq!(mode(path) & 0o077 == 0, key, "{}", path.display());
    }
}

#[test]
fn whatever_a_crash_left_is_repaired() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev-certs");
    let certs = prepare(&folder, "gateway", NOW).unwrap();
    let whole = content(&folder);
    for damage in whole.keys() {
        fs::remove_file(damage).unwrap();
        let parent = damage.parent().unwrap();
        let unfinished = parent.with_extension("unfinished");
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join(CERTIFICATE_FILE), "half a certi").unwrap();

        assert_eq!(prepare(&folder, "gateway", NOW).unwrap(), certs);
        verify_broker(&certs, "localhost", at(0)).unwrap();
        verify_gateway(&certs, &certs.gateway.certificate).unwrap();
        assert!(!unfinished.exists(), "{}", unfinished.display());
        let repaired = content(&folder);
        assert!(repaired.keys().eq(whole.keys()));
    }
}

#[test]
fn ids_that_cannot_name_a_certificate_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for id in ["", "a/b", "..%", "ä", "a b", &"x".repeat(65)] {
        let error = prepare(root.path(), id, NOW).unwrap_err();
        assert!(error.to_string().starts_with("--gateway-id: "), "{id:?}");
    }
    for id in ["g", "site-7.line_2", &"x".repeat(64)] {
        prepare(&root.path().join("certs"), id, NOW).unwrap();
    }
}
