//! The HTTP side for operators: `/metrics`, `/healthz` and `/readyz`, and nothing that changes anything.
//!
//! Each connection carries one request and lives for a bounded time, so that idle or stuck peers cannot hold a slot: the
//! peers are scrapers and orchestrators, for whom a connection a request costs nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use crate::{Metrics, Shutdown};

/// Longest request line plus headers.
const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// Time for the request head to arrive.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the whole exchange, including a peer that reads the answer slowly.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How often raw histogram samples are folded into buckets, whether or not anybody scrapes.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Pause after a failed accept: out of file descriptors, a tight loop would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A part of the process that knows how it is. Asked on every request, from any thread: it must answer at once.
pub trait Probe: Send + Sync {
    /// Short name for the answer, such as "broker".
    fn name(&self) -> &'static str;

    /// Whether the part still works.
    ///
    /// # Errors
    /// Why it does not; a restart is wanted.
    fn live(&self) -> Result<(), String>;

    /// Whether the part makes progress and may be given work.
    ///
    /// # Errors
    /// Why it may not.
    fn ready(&self) -> Result<(), String>;
}

/// Serves `/metrics`, `/healthz` and `/readyz` until the end is requested. A probe answers 200 `ok`, or 503 with one line
/// `name: why` per failing part.
pub async fn serve(
    listener: TcpListener,
    probes: Vec<Arc<dyn Probe>>,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    let router = router(probes, metrics.clone());
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut upkeep = tokio::time::interval(METRICS_UPKEEP_INTERVAL);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = upkeep.tick() => metrics.upkeep(),
            (stream, slot) = accept(&listener, &slots) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve_connection(stream, router).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::warn!("http: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let exchange = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_TIMEOUT)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_TIMEOUT, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("http: {error}"),
        Err(_) => tracing::debug!("http: a connection took too long"),
    }
}

#[derive(Clone)]
struct Shown {
    probes: Arc<[Arc<dyn Probe>]>,
    metrics: Metrics,
}

fn router(probes: Vec<Arc<dyn Probe>>, metrics: Metrics) -> Router {
    let shown = Shown { probes: probes.into(), metrics };
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .with_state(shown)
}

async fn show_metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], shown.metrics.render())
}

async fn show_health(State(shown): State<Shown>) -> (StatusCode, String) {
    verdict(&shown.probes, |probe| probe.live())
}

async fn show_readiness(State(shown): State<Shown>) -> (StatusCode, String) {
    verdict(&shown.probes, |probe| probe.ready())
}

fn verdict(
    probes: &[Arc<dyn Probe>],
    ask: impl Fn(&dyn Probe) -> Result<(), String>,
) -> (StatusCode, String) {
    let failures: String = probes
        .iter()
        .filter_map(|probe| {
            let why = ask(probe.as_ref()).err()?;
            Some(format!("{}: {why}\n", probe.name()))
        })
        .collect();
    if failures.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, failures)
    }
}

#[cfg(test)]
mod tests;
