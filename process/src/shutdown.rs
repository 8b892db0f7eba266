//! How a process ends: on a signal, or because a part of it can no longer keep its promises.
//!
//! Everything that runs for long holds a [`Shutdown`] and waits on it beside its work. Whoever may end the process holds a
//! [`ShutdownTrigger`]. The first fatal error is kept; later ones are usually consequences and are only logged.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Exit status after a second signal, by the shell's convention (128 + SIGINT).
const EXIT_CODE_SECOND_SIGNAL: i32 = 130;

/// Why a process cannot go on. The operator must act; a restart alone may or may not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{component}: {detail}")]
pub struct FatalError {
    /// The part that failed, as operators know it: "wal", "spool".
    pub component: &'static str,
    /// What happened, for people.
    pub detail: String,
}

/// The waiting side; clones wait for the same end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

impl Shutdown {
    /// A connected pair.
    pub fn new() -> (ShutdownTrigger, Self) {
        let shared = Arc::new(Shared { stop: watch::Sender::new(false), fatal: OnceLock::new() });
        let trigger = ShutdownTrigger { shared: Arc::clone(&shared) };
        (trigger, Self { shared })
    }

    /// Returns once the end is requested; at once if it was already. Cancel safe, and any number may wait.
    pub async fn requested(&self) {
        let mut stop = self.shared.stop.subscribe();
        stop.wait_for(|requested| *requested)
            .await
            .expect("the sender lives in the state that self holds");
    }

    /// Whether the end was requested.
    pub fn is_requested(&self) -> bool {
        *self.shared.stop.borrow()
    }
}

/// The requesting side. Usable from tasks and plain threads alike; never blocks.
#[derive(Debug, Clone)]
pub struct ShutdownTrigger {
    shared: Arc<Shared>,
}

impl ShutdownTrigger {
    /// Requests an orderly end.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Logs `error`, keeps it if it is the first, and requests the end.
    pub fn fatal(&self, error: FatalError) {
        tracing::error!(component = error.component, "{}", error.detail);
        // A later error is usually a consequence of the first, which is the one that decides the outcome.
        let _ = self.shared.fatal.set(error);
        self.stop();
    }

    /// A guard for a part without which the process is of no use: dropped before the end was requested, by a panic or a
    /// silent return, it ends the process as failed. A process that lives on without the part would look healthy.
    pub fn vital(&self, component: &'static str) -> Vital {
        Vital { trigger: self.clone(), component }
    }

    /// Runs a vital part as a task.
    pub fn spawn_vital(
        &self,
        component: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let vital = self.vital(component);
        tokio::spawn(async move {
            let _vital = vital;
            part.await;
        })
    }

    /// The first fatal error, if there was one: the process then exits with code 1.
    pub fn outcome(&self) -> Option<FatalError> {
        self.shared.fatal.get().cloned()
    }
}

/// Held by a part for as long as it runs; see [`ShutdownTrigger::vital`].
#[derive(Debug)]
#[must_use = "dropping it says that the part has ended"]
pub struct Vital {
    trigger: ShutdownTrigger,
    component: &'static str,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !*self.trigger.shared.stop.borrow() {
            let detail = "ended unasked".to_owned();
            self.trigger.fatal(FatalError { component: self.component, detail });
        }
    }
}

#[derive(Debug)]
struct Shared {
    stop: watch::Sender<bool>,
    fatal: OnceLock<FatalError>,
}

/// Watches SIGINT and SIGTERM from a task of its own: the first requests an orderly end, a second one exits at once with
/// status 130. Signals that cannot be watched are a fatal error. Must be called within a tokio runtime.
pub fn watch_signals(trigger: ShutdownTrigger) {
    // Registered before the task is spawned: a signal that comes right after this call is not missed.
    let streams = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    match streams {
        Ok((interrupt, terminate)) => {
            tokio::spawn(stop_on_signals(trigger, interrupt, terminate));
        }
        Err(error) => trigger.fatal(FatalError {
            component: "signals",
            detail: format!("cannot watch SIGINT and SIGTERM: {error}"),
        }),
    }
}

async fn stop_on_signals(trigger: ShutdownTrigger, mut interrupt: Signal, mut terminate: Signal) {
    let name = next_signal(&mut interrupt, &mut terminate).await;
    tracing::info!("{name}: ending");
    trigger.stop();
    let name = next_signal(&mut interrupt, &mut terminate).await;
    tracing::warn!("{name} again: exiting at once");
    std::process::exit(EXIT_CODE_SECOND_SIGNAL);
}

async fn next_signal(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    std::future::poll_fn(|context| {
        if interrupt.poll_recv(context).is_ready() {
            std::task::Poll::Ready("SIGINT")
        } else {
            terminate.poll_recv(context).map(|_| "SIGTERM")
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fatal(detail: &str) -> FatalError {
        FatalError { component: "wal", detail: detail.to_owned() }
    }

    #[tokio::test]
    async fn every_waiter_wakes_and_late_ones_do_not_wait() {
        let (trigger, shutdown) = Shutdown::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let shutdown = shutdown.clone();
                tokio::spawn(async move { shutdown.requested().await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        assert!(!shutdown.is_requested());
        trigger.stop();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert!(shutdown.is_requested());
        shutdown.requested().await;
        assert_eq!(trigger.outcome(), None);
    }

    #[tokio::test]
    async fn a_waiter_outlives_its_triggers() {
        let (trigger, shutdown) = Shutdown::new();
        drop(trigger);
        let waited =
            tokio::time::timeout(std::time::Duration::from_millis(1), shutdown.requested()).await;
        assert!(waited.is_err(), "nobody asked to end");
    }

    #[tokio::test]
    async fn a_vital_part_that_ends_unasked_ends_the_process() {
        let (trigger, shutdown) = Shutdown::new();
        let part = trigger.spawn_vital("engine", async { panic!("injected") });
        assert!(part.await.is_err());
        shutdown.requested().await;
        assert_eq!(trigger.outcome().unwrap().to_string(), "engine: ended unasked");

        let (trigger, _shutdown) = Shutdown::new();
        let vital = trigger.vital("engine");
        trigger.stop();
        drop(vital);
        assert_eq!(trigger.outcome(), None, "it was asked to end");
    }

    #[tokio::test]
    async fn the_first_fatal_error_wins_from_any_thread() {
        let (trigger, shutdown) = Shutdown::new();
        let from_thread = trigger.clone();
        std::thread::spawn(move || from_thread.fatal(fatal("disk gone"))).join().unwrap();
        trigger.fatal(fatal("a consequence"));
        shutdown.requested().await;
        assert_eq!(trigger.outcome(), Some(fatal("disk gone")));
        assert_eq!(fatal("disk gone").to_string(), "wal: disk gone");
    }
}
