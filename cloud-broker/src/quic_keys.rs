//! Keys that must outlive the process so that gateways notice a restart at once: with the same stateless-reset and
//! connection-id keys, the new process answers packets of old connections with a reset that their peers believe, instead
//! of letting them wait out the idle timeout.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac::{HMAC_SHA256, Key};
use thiserror::Error;

use crate::control_store::sync_folder;

const FILE: &str = "quic-keys";
const TEMPORARY: &str = "quic-keys.new";
const MAGIC: &[u8; 4] = b"CVQ1";
const RESET_BYTES: usize = 64;
const TOKEN_BYTES: usize = 32;
const CID_BYTES: usize = 8;
const FILE_BYTES: usize = MAGIC.len() + RESET_BYTES + TOKEN_BYTES + CID_BYTES;

/// The keys of one broker.
pub(crate) struct QuicKeys {
    reset: [u8; RESET_BYTES],
    token: [u8; TOKEN_BYTES],
    cid: [u8; CID_BYTES],
}

/// Why the keys are not at hand.
#[derive(Debug, Error)]
pub enum QuicKeysError {
    /// The file holds something else. Move it away; gateways then notice the next restart late, once.
    #[error("{}: not a QUIC key file; move it away to have new keys made", .0.display())]
    Damaged(PathBuf),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error("no randomness from the system: {0}")]
    Entropy(getrandom::Error),
}

/// Between two stateless resets. After a restart every gateway is told by one, so quinn's default of 20 ms would keep a
/// thousand of them waiting for 20 s.
const RESET_INTERVAL: Duration = Duration::from_micros(100);

impl QuicKeys {
    /// Reads the keys from `folder`, or makes and stores them on the first start.
    pub(crate) fn load_or_make(folder: &Path) -> Result<Self, QuicKeysError> {
        let path = folder.join(FILE);
        let io_error = |source| QuicKeysError::Io { path: path.clone(), source };
        match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::with_capacity(FILE_BYTES + 1);
                let mut bounded = file.take(FILE_BYTES as u64 + 1);
                bounded.read_to_end(&mut bytes).map_err(io_error)?;
                Self::parse(&bytes).ok_or(QuicKeysError::Damaged(path))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; FILE_BYTES];
                getrandom::fill(&mut bytes).map_err(QuicKeysError::Entropy)?;
                bytes[..MAGIC.len()].copy_from_slice(MAGIC);
                store(folder, &path, &bytes).map_err(io_error)?;
                Self::parse(&bytes).ok_or(QuicKeysError::Damaged(path))
            }
            Err(error) => Err(io_error(error)),
        }
    }

    /// Endpoint settings with these keys.
    pub(crate) fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(Key::new(HMAC_SHA256, &self.reset)));
        let cid_key = u64::from_le_bytes(self.cid);
        config.min_reset_interval(RESET_INTERVAL);
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
        config
    }

    /// The key of address-validation tokens.
    pub(crate) fn token_key(&self) -> Prk {
        Salt::new(HKDF_SHA256, &[]).extract(&self.token)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (reset, rest) = rest.split_first_chunk()?;
        let (token, rest) = rest.split_first_chunk()?;
        let (cid, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(Self { reset: *reset, token: *token, cid: *cid })
    }
}

fn store(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(TEMPORARY);
    // Left behind by a crash, and perhaps with other rights.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_only_the_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TEMPORARY), b"left over").unwrap();
        let first = QuicKeys::load_or_make(folder.path()).unwrap();
        let second = QuicKeys::load_or_make(folder.path()).unwrap();
        assert_eq!(first.reset, second.reset);
        assert_eq!((first.token, first.cid), (second.token, second.cid));
        assert_ne!(first.reset, [0; RESET_BYTES]);
        let rights = fs::metadata(folder.path().join(FILE)).unwrap().permissions();
        assert_eq!(rights.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        QuicKeys::load_or_make(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(&path, &bytes).unwrap();
        let damaged = QuicKeys::load_or_make(folder.path());
        assert!(matches!(damaged, Err(QuicKeysError::Damaged(_))));
    }
}
