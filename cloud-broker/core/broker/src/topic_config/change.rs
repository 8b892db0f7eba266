//! Changes of what a topic has set, one config at a time (KIP-339).

use super::{ConfigRefused, Kind, RetentionDefaults, TopicConfig, TopicConfigs, shortened};

/// What is done to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amendment {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) value: Option<String>,
}

/// How the value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Words that a list has afterwards.
    Append,
    /// The config has its default again.
    Delete,
    /// The config's value.
    Set,
    /// Words that a list does not have afterwards.
    Subtract,
}

impl TopicConfigs {
    /// Another one with these changes. Each config may be named once.
    pub(crate) fn amended(
        &self,
        amendments: &[Amendment],
        defaults: &RetentionDefaults,
    ) -> Result<Self, ConfigRefused> {
        let mut amended = self.clone();
        for (at, amendment) in amendments.iter().enumerate() {
            let name = &amendment.name;
            if amendments.iter().take(at).any(|other| other.name == *name) {
                return Err(ConfigRefused::Twice(shortened(name)));
            }
            let is_delete = amendment.operation == Operation::Delete;
            let config = match TopicConfig::find(name) {
                Some(config) => config,
                // Set by a release that knows it: what this one does not know, it can still take away.
                None if is_delete && amended.set.remove(name).is_some() => continue,
                None => return Err(ConfigRefused::Unknown(shortened(name))),
            };
            if is_delete {
                amended.set.remove(name);
                continue;
            }
            let value = amendment.value.as_deref();
            let value = value.ok_or_else(|| ConfigRefused::Null(name.clone()))?.trim();
            let value = match amendment.operation {
                Operation::Set | Operation::Delete => value.to_owned(),
                list => {
                    let Kind::List(_) = config.kind else {
                        return Err(ConfigRefused::NotAList(config.name));
                    };
                    with_words(&self.value(config, defaults), value, list)
                }
            };
            config.check(&value)?;
            amended.set.insert(name.clone(), value);
        }
        amended.agreeing()
    }
}

/// A list with these words added at its end, or without them.
fn with_words(list: &str, words: &str, operation: Operation) -> String {
    let split = |text| str::split(text, ',').map(str::trim).filter(|word| !word.is_empty());
    let mut kept: Vec<&str> = split(list).collect();
    for word in split(words) {
        if operation == Operation::Subtract {
            kept.retain(|old| *old != word);
        } else if !kept.contains(&word) {
            kept.push(word);
        }
    }
    kept.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Append, Delete, Set, Subtract};

    fn amended(
        set: &[(&str, &str)],
        changes: &[(&str, Operation, Option<&str>)],
    ) -> Result<String, ConfigRefused> {
        let set = set.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let amendments: Vec<Amendment> = changes
            .iter()
            .map(|&(name, operation, value)| Amendment {
                name: name.to_owned(),
                operation,
                value: value.map(str::to_owned),
            })
            .collect();
        let configs = TopicConfigs::stored(set.collect());
        let configs = configs.amended(&amendments, &RetentionDefaults::default())?;
        let told: Vec<_> = configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(told.join(" "))
    }

    #[test]
    fn configs_are_changed_one_by_one() {
        let policy = "cleanup.policy";
        let throttled = "leader.replication.throttled.replicas";
        let both = [("retention.ms", "1"), (policy, "compact")];
        for (set, changes, expected) in [
            (&both[..], &[][..], "cleanup.policy=compact retention.ms=1"),
            (&both, &[("retention.ms", Set, Some(" 2 "))], "cleanup.policy=compact retention.ms=2"),
            (&both, &[("retention.ms", Delete, None)], "cleanup.policy=compact"),
            (&[], &[("retention.ms", Delete, Some("9"))], ""),
            (
                &both,
                &[(policy, Append, Some("delete")), ("retention.ms", Delete, None)],
                "cleanup.policy=compact,delete",
            ),
            // The default counts, and what is there already is not added again.
            (&[], &[(policy, Append, Some("compact, delete"))], "cleanup.policy=delete,compact"),
            (
                &[(policy, "compact,delete")],
                &[(policy, Subtract, Some("compact"))],
                "cleanup.policy=delete",
            ),
            (
                &[],
                &[(throttled, Append, Some("0:1,0:2"))],
                "leader.replication.throttled.replicas=0:1,0:2",
            ),
            (&[("new.release", "x")], &[("new.release", Delete, None)], ""),
        ] {
            assert_eq!(amended(set, changes).as_deref(), Ok(expected), "{changes:?}");
        }
    }

    #[test]
    fn what_is_no_change() {
        let refused = |changes: &[_]| amended(&[], changes).unwrap_err();
        let ms = "retention.ms";
        assert_eq!(refused(&[(ms, Set, None)]), ConfigRefused::Null(ms.to_owned()));
        assert_eq!(refused(&[(ms, Append, Some("1"))]), ConfigRefused::NotAList(ms));
        assert_eq!(refused(&[(ms, Subtract, Some("1"))]), ConfigRefused::NotAList(ms));
        assert_eq!(
            refused(&[(ms, Set, Some("1")), (ms, Delete, None)]),
            ConfigRefused::Twice(ms.to_owned())
        );
        assert_eq!(refused(&[("x", Set, Some("1"))]), ConfigRefused::Unknown("x".to_owned()));
        assert_eq!(refused(&[("x", Delete, None)]), ConfigRefused::Unknown("x".to_owned()));
        let max = "max.compaction.lag.ms";
        let lags = amended(&[(max, "5")], &[("min.compaction.lag.ms", Set, Some("6"))]);
        assert_eq!(lags, Err(ConfigRefused::Lags { min: 6, max: 5 }));
        let value = refused(&[("cleanup.policy", Subtract, Some("delete"))]);
        assert!(matches!(value, ConfigRefused::Value { name: "cleanup.policy", .. }), "{value}");
        assert!(matches!(refused(&[(ms, Set, Some("-2"))]), ConfigRefused::Value { .. }));
    }
}
