//! The MQTT listener: sockets around [`gateway_core::mqtt::Connection`].
//!
//! A connection parses all it has buffered into one batch, hands that to the store thread, and sends the
//! acknowledgements when the answer comes; meanwhile it goes on reading until too much is unacknowledged. Nothing here
//! waits for a timer, and a slow client holds up nobody else.

mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::dedupe::Numbered;
use gateway_core::gateway::Arrival;
use gateway_core::mqtt::{MqttLimits, Publish};
use process::{Clock, Shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use self::client::Client;
use crate::hub_task::HubHandle;
use crate::store_thread::StoreHandle;

/// How long connections may take to end when the process is stopping.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept: out of file descriptors, a tight loop would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Bytes of publishes that all connections together may have handed to the store thread.
const STAGED_BYTES_MAX: usize = 64 << 20;

/// Unit of that budget, so that it fits a semaphore's count.
const STAGED_UNIT_BYTES: usize = 1 << 10;

/// What every connection needs.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Time.
    pub clock: Clock,
    /// Limits of a connection.
    pub limits: MqttLimits,
    /// The acknowledgement gate.
    pub store: StoreHandle,
    /// Who is connected, and who subscribed to what.
    pub hub: HubHandle,
    /// Connections that may be open.
    pub connections_max: usize,
    /// The process's end.
    pub shutdown: Shutdown,
}

/// Accepts connections until the end is requested, then sees them off.
pub async fn serve(listener: TcpListener, edge: Edge) {
    let slots = Arc::new(Semaphore::new(edge.connections_max));
    let staged = Arc::new(Semaphore::new(STAGED_BYTES_MAX / STAGED_UNIT_BYTES));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = edge.shutdown.requested() => break,
            Some(_) = connections.join_next() => {}
            (stream, peer, slot) = accept(&listener, &slots) => {
                let (edge, staged) = (edge.clone(), Arc::clone(&staged));
                connections.spawn(async move {
                    Client::new(edge, staged, stream, peer).run().await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    let all_off = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, all_off).await.is_err() {
        tracing::warn!("{} connections did not end in time", connections.len());
    }
}

/// The next connection, once there is a slot for it: beyond the limit, clients wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                tracing::warn!("cannot accept an MQTT connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// What publishes take in memory, roughly.
fn staged_bytes(publishes: &[Publish]) -> usize {
    let bytes = |publish: &Publish| {
        publish.payload.len() + publish.topic.as_str().len() + STAGED_UNIT_BYTES / 4
    };
    publishes.iter().map(bytes).sum()
}

/// What they take of [`STAGED_BYTES_MAX`]; never more than all of it, or the batch could never go.
fn staged_units(bytes: usize) -> u32 {
    let units = bytes.div_ceil(STAGED_UNIT_BYTES).min(STAGED_BYTES_MAX / STAGED_UNIT_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn arrival(publish: Publish) -> Arrival {
    let text = |text: &gateway_core::mqtt::Text| text.clone().into_bytes();
    let properties =
        publish.user_properties().iter().map(|(name, value)| (text(name), text(value))).collect();
    let sequence = publish.sequence.map(|sequence| {
        let numbered =
            Numbered { first: sequence.first, count: 1, lost_before: sequence.lost_before };
        (sequence.queue, numbered)
    });
    Arrival {
        acknowledged: publish.delivery.packet_id().is_some(),
        topic: publish.topic.into_bytes(),
        payload: publish.payload,
        properties,
        sequence,
        maybe_dup: publish.maybe_dup,
    }
}

#[cfg(test)]
mod tests;
