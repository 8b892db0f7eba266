//! Who owns what, and the order of start and end.
//!
//! | owner | owns | is told by |
//! |---|---|---|
//! | thread `spool` | gateway core, database | a queue of 1,024 jobs; full, it stops the sockets |
//! | task hub | sessions, subscriptions, retained messages | a queue of 1,024 requests |
//! | a task per connection | its MQTT machine and socket | its socket, its answer, its eviction |
//! | task uplink | connection to the broker | batches that it pulls |
//!
//! End: connections are seen off and what they had published is answered; then the hub is done; then the uplink closes; then the spool's
//! thread commits what is left and closes the database.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_core::gateway::{Gateway, GatewaySettings, Status};
use gateway_core::hub::Hub;
use gateway_core::mqtt::{GATEWAY_TOPIC, Message};
use gateway_core::spool::store::StoreError;
use process::{Clock, ListenError, Probe, Shutdown, ShutdownTrigger};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::ids::SpoolId;

use crate::config::Settings;
use crate::hub_task;
use crate::mqtt_tcp::{self, Edge};
use crate::spool_sqlite::{OpenError, SqliteStore};
use crate::store_thread::{self, StoreHandle};
use crate::tls::{self, TlsError};
use crate::uplink_quic::{self, Uplink};

/// A gateway whose oldest unsent reading has not moved for so long is not ready, in milliseconds.
pub const STUCK_MS: u64 = 60_000;

/// Why a gateway cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// The spool cannot be read.
    #[error("spool: {0}")]
    Store(#[from] StoreError),
    /// No thread for the spool.
    #[error("cannot start the spool's thread: {0}")]
    Thread(std::io::Error),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A gateway at work.
pub struct Running {
    /// Where devices connect.
    pub mqtt_address: SocketAddr,
    /// How it is.
    pub probe: Arc<dyn Probe>,
    /// How it stands, in figures.
    pub status: watch::Receiver<Status>,
    store: StoreHandle,
    thread: std::thread::JoinHandle<()>,
    edge: JoinHandle<()>,
    hub: JoinHandle<()>,
    uplink: JoinHandle<()>,
}

impl Running {
    /// Waits for the end that was requested. When this returns, everything acknowledged is on the disk and the database
    /// is closed.
    pub async fn finished(self) {
        // A panic in one of them is printed by its thread; the end goes on.
        let _ = self.edge.await;
        let _ = self.hub.await;
        let _ = self.uplink.await;
        self.store.stop().await;
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// Opens the spool and the listener and starts everything.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub async fn start(
    settings: Settings,
    clock: Clock,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    crate::metrics::describe();
    let spec = settings.mqtt_listener();
    process::require_safe(&spec, settings.protection)?;
    let identity = tls::load(&settings.tls)?;
    let listener = process::bind_tcp(&spec)?;
    let mqtt_address = listener.local_addr().unwrap_or(settings.mqtt_listen);
    let new_spool = SpoolId(crate::entropy::random_id());
    let store =
        SqliteStore::open(&settings.data_dir, &identity.gateway, new_spool, settings.quota)?;
    let core = GatewaySettings {
        gateway: identity.gateway.clone(),
        quota: settings.quota,
        record_interval_ms: settings.record_interval_ms,
    };
    let gateway = Gateway::open(core, store, clock.mono())?;
    tracing::info!(gateway = %identity.gateway, spool = %gateway.spool(), "spool open");
    let own = Message::of_gateway(GATEWAY_TOPIC, gateway.spool().to_string().into());
    let own = Hub::new(own.into_iter().collect());
    let (store, status, thread) =
        store_thread::spawn(gateway, clock, trigger.clone()).map_err(StartError::Thread)?;
    let (hub_handle, hub) = hub_task::spawn(own, clock, store.clone(), &trigger);
    let edge = Edge {
        clock,
        limits: settings.limits,
        store: store.clone(),
        hub: hub_handle,
        connections_max: settings.connections_max,
        shutdown: shutdown.clone(),
    };
    let edge = trigger.spawn_vital("mqtt", mqtt_tcp::serve(listener, edge));
    let uplink = Uplink {
        clock,
        address: settings.uplink_address,
        server_name: settings.uplink_server_name,
        identity,
        store: store.clone(),
        status: status.clone(),
        shutdown,
    };
    let uplink = trigger.spawn_vital("uplink", uplink_quic::run(uplink));
    let probe = Arc::new(GatewayProbe { clock, status: status.clone() });
    Ok(Running { mqtt_address, probe, status, store, thread, edge, hub, uplink })
}

struct GatewayProbe {
    clock: Clock,
    status: watch::Receiver<Status>,
}

impl Probe for GatewayProbe {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn live(&self) -> Result<(), String> {
        // The spool's thread holds the sending side: gone, nothing can be acknowledged any more.
        match self.status.has_changed() {
            Ok(_) => Ok(()),
            Err(_) => Err("the spool is closed".into()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.live()?;
        let status = self.status.borrow();
        if let Some(alarm) = &status.alarm {
            return Err(format!("uplink stopped: {alarm}"));
        }
        let stuck_ms = self.clock.mono() - status.progress;
        if status.spooled > 0 && stuck_ms > STUCK_MS {
            let readings = status.spooled;
            return Err(format!(
                "{readings} readings wait, none was delivered for {} s",
                stuck_ms / 1_000
            ));
        }
        Ok(())
    }
}
