//! A recorder that remembers one gauge.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// What a gauge was set to last by this thread.
#[derive(Debug)]
pub struct OneGauge {
    name: &'static str,
    /// The bits of a float; not a number until it is set.
    bits: Arc<AtomicU64>,
}

impl OneGauge {
    pub fn of(name: &'static str) -> Self {
        Self { name, bits: Arc::new(AtomicU64::new(f64::NAN.to_bits())) }
    }

    /// Waits until the gauge shows `wanted`.
    pub async fn becomes(&self, wanted: f64) {
        let shown = || f64::from_bits(self.bits.load(Ordering::Relaxed));
        let there = async {
            while shown() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, there).await;
        assert!(waited.is_ok(), "{} is {}, not {wanted}", self.name, shown());
    }
}

impl Recorder for OneGauge {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if key.name() == self.name {
            Gauge::from_arc(Arc::clone(&self.bits))
        } else {
            Gauge::noop()
        }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
