//! Rules of the shipped cores that are broken on purpose: a simulator that never fails proves nothing.

use std::panic::catch_unwind;

use crate::run::{Keep, run};

/// A rule, and the core that it is broken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// In broker-core.
    Broker(broker_core::mutant::Mutant),
    /// In device-sdk.
    Device(device_sdk::mutant::Mutant),
    /// In gateway-core.
    Gateway(gateway_core::mutant::Mutant),
    /// In broker-log.
    Log(broker_log::mutant::Mutant),
}

impl Broken {
    /// Every rule that can be broken.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let broker = broker_core::mutant::Mutant::ALL.iter().copied().map(Self::Broker);
        let device = device_sdk::mutant::Mutant::ALL.iter().copied().map(Self::Device);
        let gateway = gateway_core::mutant::Mutant::ALL.iter().copied().map(Self::Gateway);
        // The others need clients that delete, or disks that rot: the log's own tests have those.
        let log = broker_log::mutant::Mutant::SEEN_BY_THE_UPLINK.iter().copied().map(Self::Log);
        broker.chain(device).chain(gateway).chain(log).collect()
    }

    /// Runs `seed` with the rule broken, and says what was noticed, if anything was. A core that panics has noticed it by
    /// itself.
    #[must_use]
    pub fn caught_at(self, seed: u64) -> Option<String> {
        self.set();
        let outcome = catch_unwind(|| run(seed, Keep::Hash));
        mend();
        match outcome {
            Ok(outcome) => outcome.result.err().map(|violation| violation.what),
            Err(_) => Some("a core panicked".to_owned()),
        }
    }

    fn set(self) {
        match self {
            Self::Broker(mutant) => broker_core::mutant::set(Some(mutant)),
            Self::Device(mutant) => device_sdk::mutant::set(Some(mutant)),
            Self::Gateway(mutant) => gateway_core::mutant::set(Some(mutant)),
            Self::Log(mutant) => broker_log::mutant::set(Some(mutant)),
        }
    }
}

fn mend() {
    broker_core::mutant::set(None);
    device_sdk::mutant::set(None);
    gateway_core::mutant::set(None);
    broker_log::mutant::set(None);
}
