//! What configs mean for the log: how long a topic's records are kept.

use std::borrow::Cow;

use broker_log::{CompactPolicy, TopicPolicy};

use super::{
    CLEANUP_POLICY, ConfigRefused, RETENTION_BYTES, RETENTION_MS, TopicConfig, TopicConfigs,
};

pub(super) const DELETE_RETENTION_MS: &str = "delete.retention.ms";
pub(super) const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
pub(super) const MIN_CLEANABLE_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
pub(super) const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";

/// What topics have that set nothing themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionDefaults {
    /// How long records are kept, in milliseconds from when they were stored, as Kafka's `log.retention.ms`; `None`: for ever.
    pub ms: Option<u64>,
    /// Bytes of a partition beyond which its oldest records go, as Kafka's `log.retention.bytes`; `None`: without limit.
    pub bytes: Option<u64>,
}

impl Default for RetentionDefaults {
    /// Kafka's: a week, of any size.
    fn default() -> Self {
        Self { ms: Some(7 * 24 * 60 * 60 * 1_000), bytes: None }
    }
}

impl RetentionDefaults {
    /// The default of a topic's config.
    pub(crate) fn of(&self, config: &TopicConfig) -> Cow<'static, str> {
        let limit = match config.name {
            RETENTION_BYTES => self.bytes,
            RETENTION_MS => self.ms,
            _ => return Cow::Borrowed(config.default),
        };
        limit.map_or(Cow::Borrowed("-1"), |limit| Cow::Owned(limit.to_string()))
    }
}

impl TopicConfigs {
    /// What retention and compaction do with the topic.
    pub(crate) fn policy(&self, defaults: &RetentionDefaults) -> TopicPolicy {
        let limit = |name| u64::try_from(self.long(name, defaults)).ok();
        let deletes = self.cleans_by("delete", defaults);
        TopicPolicy {
            retention_ms: limit(RETENTION_MS).filter(|_| deletes),
            retention_bytes: limit(RETENTION_BYTES).filter(|_| deletes),
            compact: self.cleans_by("compact", defaults).then(|| {
                let number = |name| limit(name).unwrap_or(0);
                CompactPolicy {
                    min_dirty_per_mille: self.per_mille(MIN_CLEANABLE_DIRTY_RATIO, defaults),
                    min_lag_ms: number(MIN_COMPACTION_LAG_MS),
                    max_lag_ms: number(MAX_COMPACTION_LAG_MS),
                    delete_retention_ms: number(DELETE_RETENTION_MS),
                }
            }),
        }
    }

    /// Holds configs against each other (Kafka's `LogConfig.validateValues`).
    pub(super) fn agreeing(self) -> Result<Self, ConfigRefused> {
        let defaults = RetentionDefaults::default();
        let lag = |name| self.long(name, &defaults);
        let (min, max) = (lag(MIN_COMPACTION_LAG_MS), lag(MAX_COMPACTION_LAG_MS));
        if min > max { Err(ConfigRefused::Lags { min, max }) } else { Ok(self) }
    }

    /// Whether `cleanup.policy` has this word.
    pub(crate) fn cleans_by(&self, word: &str, defaults: &RetentionDefaults) -> bool {
        let policy = TopicConfig::find(CLEANUP_POLICY).map(|config| self.value(config, defaults));
        policy.is_some_and(|policy| policy.split(',').any(|part| part.trim() == word))
    }

    /// The value of a config of 64 bits, or its default if what is stored is none.
    fn long(&self, name: &'static str, defaults: &RetentionDefaults) -> i64 {
        let parse = |text: Cow<'_, str>| text.parse().ok();
        let config = TopicConfig::find(name);
        let value = config.and_then(|config| parse(self.value(config, defaults)));
        value.or_else(|| parse(defaults.of(config?))).unwrap_or(-1)
    }

    fn per_mille(&self, name: &'static str, defaults: &RetentionDefaults) -> u16 {
        let config = TopicConfig::find(name);
        let ratio = config.and_then(|config| self.value(config, defaults).parse::<f64>().ok());
        // Between 0 and 1000, as values are checked; a cast of anything else ends at a bound.
        (ratio.unwrap_or(0.5) * 1_000.0).round().clamp(0.0, 1_000.0) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn configs_become_a_policy() {
        let defaults = RetentionDefaults::default();
        let of = |set: &[(&str, &str)], defaults: RetentionDefaults| {
            let set = set.iter().map(|&(name, value)| (name, Some(value)));
            TopicConfigs::parse(set).unwrap().policy(&defaults)
        };
        let compact = CompactPolicy {
            min_dirty_per_mille: 500,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX as u64,
            delete_retention_ms: DAY_MS,
        };
        let week = TopicPolicy { retention_ms: Some(7 * DAY_MS), ..TopicPolicy::default() };
        let ever = RetentionDefaults { ms: None, bytes: Some(9) };
        for (set, defaults, expected) in [
            (&[][..], defaults, week),
            (&[], ever, TopicPolicy { retention_bytes: Some(9), ..TopicPolicy::default() }),
            (&[("retention.ms", "-1")], defaults, TopicPolicy::default()),
            (&[("retention.ms", "0")], defaults, TopicPolicy { retention_ms: Some(0), ..week }),
            (
                &[("retention.ms", "5"), ("retention.bytes", "7")],
                ever,
                TopicPolicy { retention_ms: Some(5), retention_bytes: Some(7), compact: None },
            ),
            // Retention is not for topics that are only compacted.
            (
                &[("cleanup.policy", "compact"), ("retention.ms", "5")],
                defaults,
                TopicPolicy { compact: Some(compact), ..TopicPolicy::default() },
            ),
            (
                &[("cleanup.policy", "compact, delete"), ("min.cleanable.dirty.ratio", "0.0625")],
                defaults,
                TopicPolicy {
                    compact: Some(CompactPolicy { min_dirty_per_mille: 63, ..compact }),
                    ..week
                },
            ),
            (
                &[
                    ("cleanup.policy", "compact"),
                    ("min.cleanable.dirty.ratio", "1"),
                    ("min.compaction.lag.ms", "1"),
                    ("max.compaction.lag.ms", "2"),
                    ("delete.retention.ms", "3"),
                ],
                defaults,
                TopicPolicy {
                    compact: Some(CompactPolicy {
                        min_dirty_per_mille: 1_000,
                        min_lag_ms: 1,
                        max_lag_ms: 2,
                        delete_retention_ms: 3,
                    }),
                    ..TopicPolicy::default()
                },
            ),
        ] {
            assert_eq!(of(set, defaults), expected, "{set:?}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        for config in super::super::TOPIC_CONFIGS {
            assert_eq!(RetentionDefaults::default().of(config), config.default, "{}", config.name);
        }
    }

    #[test]
    fn the_topic_of_the_coordinator_is_compacted_and_no_other() {
        let defaults = RetentionDefaults::default();
        for (name, compacted) in [("__consumer_offsets", true), ("culvert.gateways", false)] {
            let policy = TopicConfigs::of_name(name).policy(&defaults);
            assert_eq!(
                (policy.compact.is_some(), policy.retention_ms.is_none()),
                (compacted, compacted)
            );
        }
    }
}
