//! What is in the data folder, opened.

use std::path::Path;

use broker_core::{Identity, Image};
use broker_log::LogSettings;
use process::Clock;
use tokio::sync::watch;
use wire::ids::Incarnation;

use crate::config::Settings;
use crate::control_store::{ControlError, ControlStore, Stored};
use crate::engine::WalEvents;
use crate::log_folder::{self, OpenedLog, SpaceReport, SpaceSettings};
use crate::quic_keys::QuicKeys;
use crate::runtime::StartError;

/// WAL files that wait to be sorted into units take at most this share of the disk: a quarter.
const L0_SHARE_MAX: u64 = 4;

/// What is in the data folder.
pub(crate) struct OpenedData {
    pub(crate) log: OpenedLog,
    pub(crate) identity: Identity,
    pub(crate) control: ControlStore,
    pub(crate) image: Image,
    pub(crate) keys: QuicKeys,
}

impl OpenedData {
    /// Opens everything. Blocks while the log is replayed.
    pub(crate) fn open(
        settings: &Settings,
        clock: Clock,
        events: WalEvents,
        space: watch::Sender<SpaceReport>,
    ) -> Result<Self, StartError> {
        let identity = Identity { incarnation: Incarnation(random()?), id_seed: random()? };
        // The log's lock keeps other processes out of the whole folder.
        let log = open_log(settings, &identity, clock, events, space)?;
        let failed = |error: ControlError| StartError::Control(error.to_string());
        let control = ControlStore::open(&settings.data_dir.join("ctl")).map_err(failed)?;
        let stored = first_or_stored(&control).map_err(|error| match error {
            MetadataError::Control(error) => failed(error),
            MetadataError::Entropy(error) => StartError::Entropy(error),
        })?;
        Ok(Self {
            log,
            identity,
            image: Image::load(stored.version, &stored.content)?,
            control,
            keys: QuicKeys::load_or_make(Path::new(&settings.data_dir))?,
        })
    }
}

fn open_log(
    settings: &Settings,
    identity: &Identity,
    clock: Clock,
    events: WalEvents,
    reports: watch::Sender<SpaceReport>,
) -> Result<OpenedLog, StartError> {
    let disk = log_folder::disk_of(&settings.data_dir)?;
    let storage = &settings.storage;
    let log_settings = LogSettings {
        l0_bytes_max: storage.log.l0_bytes_max.min(disk.total / L0_SHARE_MAX),
        ..storage.log.clone()
    };
    let space = SpaceSettings {
        file_bytes: log_settings.wal_file_bytes,
        ready_files: storage.wal_ready_files,
        floor: storage.disk_free_floor_bytes.unwrap_or(disk.default_floor()),
    };
    let opened = log_folder::open(
        &settings.data_dir,
        &log_settings,
        space,
        identity.incarnation,
        clock.wall(),
        events,
        move |report| {
            reports.send_replace(report);
        },
    )?;
    tracing::info!(
        checkpoint = opened.report.checkpoint,
        files = opened.report.files,
        slots = opened.report.slots,
        torn_tail = ?opened.report.torn_tail,
        "the log is open"
    );
    Ok(opened)
}

enum MetadataError {
    Control(ControlError),
    Entropy(getrandom::Error),
}

/// What is stored, which on the first start is a cluster without topics.
fn first_or_stored(control: &ControlStore) -> Result<Stored, MetadataError> {
    if let Some(stored) = control.get().map_err(MetadataError::Control)? {
        return Ok(stored);
    }
    let mut cluster = [0; 16];
    getrandom::fill(&mut cluster).map_err(MetadataError::Entropy)?;
    let content = Image::first(cluster);
    let version = control.cas(0, &content).map_err(MetadataError::Control)?;
    Ok(Stored { version, content })
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Entropy)?;
    Ok(bytes)
}
