//! Topic configs: which there are, what they may be set to, and what a topic has set.
//!
//! The names, types and defaults are Kafka's (4.1), so that tools which read everything and write it back find what they
//! expect. Those that have an effect are listed in docs/protocols/kafka-topics.md; the others are kept and told.

mod change;
mod policy;

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;
use wire::limits::RECORD_BATCH_BYTES_MAX;

use crate::groups::is_internal;

pub(crate) use change::{Amendment, Operation};
pub use policy::RetentionDefaults;

/// Longest value of a config, in bytes.
pub(crate) const CONFIG_VALUE_BYTES_MAX: usize = 1024;

/// What a value is, and which are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Bool,
    /// From 0 to 1.
    Ratio,
    /// 32 bits, within these.
    Int(i32, i32),
    /// 64 bits, at least this.
    Long(i64),
    /// Several of these; none of them: anything.
    List(&'static [&'static str]),
    OneOf(&'static [&'static str]),
}

/// A config that topics may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopicConfig {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// The broker's config that gives the default, as Kafka calls it.
    pub(crate) broker: &'static str,
}

pub(crate) const CLEANUP_POLICY: &str = "cleanup.policy";
pub(crate) const RETENTION_BYTES: &str = "retention.bytes";
pub(crate) const RETENTION_MS: &str = "retention.ms";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const LOG_APPEND_TIME: &str = "LogAppendTime";

/// The default of `max.message.bytes`, and its largest value.
pub(crate) const MAX_MESSAGE_BYTES_DEFAULT: &str = "8388608";
const _: () = assert!(RECORD_BATCH_BYTES_MAX == 8_388_608);

const FOREVER: &str = "9223372036854775807";

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    broker: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, broker }
}

/// Every config, by name.
#[rustfmt::skip]
pub(crate) const TOPIC_CONFIGS: &[TopicConfig] = &[
    config(CLEANUP_POLICY, Kind::List(&["compact", "delete"]), "delete", "log.cleanup.policy"),
    config("compression.gzip.level", Kind::Int(-1, 9), "-1", "compression.gzip.level"),
    config("compression.lz4.level", Kind::Int(1, 17), "9", "compression.lz4.level"),
    config("compression.type", Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), "producer", "compression.type"),
    config("compression.zstd.level", Kind::Int(-131_072, 22), "3", "compression.zstd.level"),
    config(policy::DELETE_RETENTION_MS, Kind::Long(0), "86400000", "log.cleaner.delete.retention.ms"),
    config("file.delete.delay.ms", Kind::Long(0), "60000", "log.segment.delete.delay.ms"),
    config("flush.messages", Kind::Long(1), FOREVER, "log.flush.interval.messages"),
    config("flush.ms", Kind::Long(0), FOREVER, "log.flush.interval.ms"),
    config("follower.replication.throttled.replicas", Kind::List(&[]), "", "follower.replication.throttled.replicas"),
    config("index.interval.bytes", Kind::Int(0, i32::MAX), "4096", "log.index.interval.bytes"),
    config("leader.replication.throttled.replicas", Kind::List(&[]), "", "leader.replication.throttled.replicas"),
    config("local.retention.bytes", Kind::Long(-2), "-2", "log.local.retention.bytes"),
    config("local.retention.ms", Kind::Long(-2), "-2", "log.local.retention.ms"),
    config(policy::MAX_COMPACTION_LAG_MS, Kind::Long(1), FOREVER, "log.cleaner.max.compaction.lag.ms"),
    config(MAX_MESSAGE_BYTES, Kind::Int(0, RECORD_BATCH_BYTES_MAX as i32), MAX_MESSAGE_BYTES_DEFAULT, "message.max.bytes"),
    config("message.timestamp.after.max.ms", Kind::Long(0), FOREVER, "log.message.timestamp.after.max.ms"),
    config("message.timestamp.before.max.ms", Kind::Long(0), FOREVER, "log.message.timestamp.before.max.ms"),
    config(TIMESTAMP_TYPE, Kind::OneOf(&["CreateTime", LOG_APPEND_TIME]), "CreateTime", "log.message.timestamp.type"),
    config(policy::MIN_CLEANABLE_DIRTY_RATIO, Kind::Ratio, "0.5", "log.cleaner.min.cleanable.ratio"),
    config(policy::MIN_COMPACTION_LAG_MS, Kind::Long(0), "0", "log.cleaner.min.compaction.lag.ms"),
    config("min.insync.replicas", Kind::Int(1, i32::MAX), "1", "min.insync.replicas"),
    config("preallocate", Kind::Bool, "false", "log.preallocate"),
    config("remote.log.copy.disable", Kind::Bool, "false", "remote.log.copy.disable"),
    config("remote.log.delete.on.disable", Kind::Bool, "false", "remote.log.delete.on.disable"),
    config("remote.storage.enable", Kind::Bool, "false", "remote.storage.enable"),
    config(RETENTION_BYTES, Kind::Long(-1), "-1", "log.retention.bytes"),
    config(RETENTION_MS, Kind::Long(-1), "604800000", "log.retention.ms"),
    config("segment.bytes", Kind::Int(14, i32::MAX), "1073741824", "log.segment.bytes"),
    config("segment.index.bytes", Kind::Int(4, i32::MAX), "10485760", "log.index.size.max.bytes"),
    config("segment.jitter.ms", Kind::Long(0), "0", "log.roll.jitter.ms"),
    config("segment.ms", Kind::Long(1), "604800000", "log.roll.ms"),
    config("unclean.leader.election.enable", Kind::Bool, "false", "unclean.leader.election.enable"),
];

/// Why a config is not taken: mend the request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ConfigRefused {
    #[error("min.compaction.lag.ms ({min}) exceeds max.compaction.lag.ms ({max})")]
    Lags { min: i64, max: i64 },
    #[error("{0} is not a list")]
    NotAList(&'static str),
    #[error("{0}: a topic's config needs a value")]
    Null(String),
    #[error("{0} is named twice")]
    Twice(String),
    #[error("unknown topic config name: {0}")]
    Unknown(String),
    #[error("invalid value {value:?} for {name}: {expected}")]
    Value { name: &'static str, value: String, expected: String },
}

/// What a topic has set. Whatever it has not has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TopicConfigs {
    set: BTreeMap<String, String>,
}

impl TopicConfigs {
    /// Takes what a client wants set. Of two values for one name the last one counts.
    pub(crate) fn parse<'a>(
        wanted: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, ConfigRefused> {
        let mut set = BTreeMap::new();
        for (name, value) in wanted {
            let config =
                TopicConfig::find(name).ok_or_else(|| ConfigRefused::Unknown(shortened(name)))?;
            let value = value.ok_or_else(|| ConfigRefused::Null(name.to_owned()))?.trim();
            config.check(value)?;
            set.insert(name.to_owned(), value.to_owned());
        }
        Self { set }.agreeing()
    }

    /// What was stored, as it is: a name that this release does not know is kept.
    pub(crate) fn stored(set: BTreeMap<String, String>) -> Self {
        Self { set }
    }

    /// What a topic of this name has unless somebody has set something else: the coordinator's topic is compacted.
    pub(crate) fn of_name(name: &str) -> Self {
        let mut configs = Self::default();
        configs.complete(name);
        configs
    }

    /// Adds what a topic of this name always has.
    pub(crate) fn complete(&mut self, name: &str) {
        if is_internal(name) {
            self.set.entry(CLEANUP_POLICY.to_owned()).or_insert_with(|| "compact".to_owned());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value that the topic has set itself.
    pub(crate) fn own(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(String::as_str)
    }

    /// The value of a config, set or by default.
    pub(crate) fn value(&self, config: &TopicConfig, defaults: &RetentionDefaults) -> Cow<'_, str> {
        match self.own(config.name) {
            Some(own) => Cow::Borrowed(own),
            None => defaults.of(config),
        }
    }

    /// Bytes of the largest record batch that clients may produce.
    pub(crate) fn max_message_bytes(&self) -> usize {
        let own = self.own(MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok());
        own.unwrap_or(RECORD_BATCH_BYTES_MAX)
    }

    /// Whether records get the broker's time.
    pub(crate) fn is_append_time(&self) -> bool {
        self.own(TIMESTAMP_TYPE) == Some(LOG_APPEND_TIME)
    }
}

impl TopicConfig {
    /// The config of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        TOPIC_CONFIGS.iter().find(|config| config.name == name)
    }

    fn check(&self, value: &str) -> Result<(), ConfigRefused> {
        let (fits, expected) = match self.kind {
            Kind::Bool => {
                let fits = ["true", "false"].iter().any(|word| value.eq_ignore_ascii_case(word));
                (fits, "true or false".to_owned())
            }
            Kind::Ratio => {
                let fits = value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
                (fits, "a number from 0 to 1".to_owned())
            }
            Kind::Int(least, most) => {
                let fits = value.parse().is_ok_and(|number: i32| (least..=most).contains(&number));
                (fits, format!("a number from {least} to {most}"))
            }
            Kind::Long(least) => {
                let fits = value.parse().is_ok_and(|number: i64| number >= least);
                (fits, format!("a number from {least} on, of 64 bits"))
            }
            Kind::List([]) => (true, String::new()),
            Kind::List(words) => {
                let fits = value.split(',').all(|word| words.contains(&word.trim()));
                (fits, format!("some of {}", words.join(", ")))
            }
            Kind::OneOf(words) => (words.contains(&value), format!("one of {}", words.join(", "))),
        };
        let refused = |expected| {
            Err(ConfigRefused::Value { name: self.name, value: shortened(value), expected })
        };
        if value.len() > CONFIG_VALUE_BYTES_MAX {
            return refused(format!("at most {CONFIG_VALUE_BYTES_MAX} bytes"));
        }
        if fits { Ok(()) } else { refused(expected) }
    }
}

/// The beginning of what a client sent, for the error that it gets.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_agrees_with_itself() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|config| config.name));
        for config in TOPIC_CONFIGS {
            assert_eq!(config.check(config.default), Ok(()), "{}", config.name);
        }
    }

    #[test]
    fn values_are_held_to_their_types() {
        let long = "x".repeat(CONFIG_VALUE_BYTES_MAX);
        let longer = format!("{long}x");
        for (name, value, fits) in [
            ("cleanup.policy", "compact", true),
            ("cleanup.policy", "compact, delete", true),
            ("cleanup.policy", "", false),
            ("cleanup.policy", "keep", false),
            ("compression.type", "zstd", true),
            ("compression.type", "none", false),
            ("max.message.bytes", "0", true),
            ("max.message.bytes", " 8388608 ", true),
            ("max.message.bytes", "8388609", false),
            ("max.message.bytes", "-1", false),
            ("max.message.bytes", "1k", false),
            ("min.cleanable.dirty.ratio", "0.25", true),
            ("min.cleanable.dirty.ratio", "1.5", false),
            ("min.cleanable.dirty.ratio", "NaN", false),
            ("min.insync.replicas", "2", true),
            ("min.insync.replicas", "0", false),
            ("preallocate", "TRUE", true),
            ("preallocate", "yes", false),
            ("retention.ms", "-1", true),
            ("retention.ms", "-2", false),
            ("retention.ms", "9223372036854775808", false),
            ("leader.replication.throttled.replicas", &long, true),
            ("leader.replication.throttled.replicas", &longer, false),
        ] {
            let parsed = TopicConfigs::parse([(name, Some(value))]);
            assert_eq!(parsed.is_ok(), fits, "{name}={value}");
        }
        let lags = |min, max| {
            let lags = [("min.compaction.lag.ms", Some(min)), ("max.compaction.lag.ms", Some(max))];
            TopicConfigs::parse(lags).map(drop)
        };
        assert_eq!((lags("0", "1"), lags("5", "5")), (Ok(()), Ok(())));
        assert_eq!(lags("6", "5"), Err(ConfigRefused::Lags { min: 6, max: 5 }));
        let unknown = TopicConfigs::parse([("retention", Some("1"))]).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown topic config name: retention");
        let null = TopicConfigs::parse([("retention.ms", None)]);
        assert_eq!(null, Err(ConfigRefused::Null("retention.ms".to_owned())));
    }

    #[test]
    fn what_has_an_effect_is_read_back() {
        let none = TopicConfigs::default();
        assert_eq!((none.max_message_bytes(), none.is_append_time()), (8_388_608, false));
        let set = [("max.message.bytes", Some("10")), (TIMESTAMP_TYPE, Some(LOG_APPEND_TIME))];
        let set = TopicConfigs::parse(set).unwrap();
        assert_eq!((set.max_message_bytes(), set.is_append_time()), (10, true));
        assert_eq!((set.own("max.message.bytes"), set.own("retention.ms")), (Some("10"), None));
    }
}
