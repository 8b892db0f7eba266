//! Topic filters, validated strictly, and what they match (v5 4.7).

use super::limits::{FILTER_LEN_MAX, FILTER_LEVELS_MAX};

/// Filters of shared subscriptions begin with this (v5 4.8.2).
const SHARED_PREFIX: &str = "$share/";

/// A topic filter: not empty, no U+0000, every wildcard alone in its level, `#` only in the last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Box<str>);

/// Why a filter cannot be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterFault {
    /// It is not one by the rules of the protocol.
    Malformed,
    /// A shared subscription.
    Shared,
    /// Longer, or with more levels, than is taken here.
    TooLong,
}

impl Filter {
    /// Checks and takes a filter.
    ///
    /// # Errors
    /// [`FilterFault`]: refuse it, the others of the packet are not concerned.
    pub fn new(text: &str) -> Result<Self, FilterFault> {
        if text.starts_with(SHARED_PREFIX) {
            return Err(FilterFault::Shared);
        }
        if text.len() > FILTER_LEN_MAX || text.split('/').count() > FILTER_LEVELS_MAX {
            return Err(FilterFault::TooLong);
        }
        if text.is_empty() || text.contains('\0') || !wildcards_fill_their_levels(text) {
            return Err(FilterFault::Malformed);
        }
        Ok(Self(text.into()))
    }

    /// The filter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels, in order.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// What every topic that it matches begins with, in bytes.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        let end = self.0.find(['+', '#']).unwrap_or(self.0.len());
        // `a/#` matches `a` as well, so the separator before a wildcard is no part of it [v5 4.7.1.2].
        self.0[..end].strip_suffix('/').unwrap_or(&self.0[..end])
    }

    /// Whether it has no wildcard, and so matches one topic only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['+', '#'])
    }

    /// Whether it matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        // [MQTT-4.7.2-1]: a leading wildcard does not match what belongs to the server.
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut topics = topic.split('/');
        for level in self.levels() {
            if level == "#" {
                return true;
            }
            match topics.next() {
                Some(part) if level == "+" || level == part => {}
                Some(_) | None => return false,
            }
        }
        topics.next().is_none()
    }
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2]: `#` is the whole last level, `+` a whole level.
pub(super) fn wildcards_fill_their_levels(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let misplaced = level == "#" && levels.peek().is_some();
        if misplaced || (level.len() > 1 && level.contains(['+', '#'])) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_filters_are_taken() {
        for text in ["a", "/", "//", "+", "#", "+/+", "a/+/b", "a/#", "/#", "$SYS/#", "grün/+", " "]
        {
            assert_eq!(Filter::new(text).unwrap().as_str(), text);
        }
        for text in
            ["", "a#", "#/a", "a/#/b", "a+", "+a", "a/+b", "a/b+/c", "##", "++", "a\0", "+#"]
        {
            assert_eq!(Filter::new(text), Err(FilterFault::Malformed), "{text:?}");
        }
        for text in ["$share/g/a", "$share/", "$share/g/#"] {
            assert_eq!(Filter::new(text), Err(FilterFault::Shared));
        }
        assert!(Filter::new(&"x".repeat(FILTER_LEN_MAX)).is_ok());
        assert_eq!(Filter::new(&"x".repeat(FILTER_LEN_MAX + 1)), Err(FilterFault::TooLong));
        assert!(Filter::new(&"/".repeat(FILTER_LEVELS_MAX - 1)).is_ok());
        assert_eq!(Filter::new(&"/".repeat(FILTER_LEVELS_MAX)), Err(FilterFault::TooLong));
    }

    /// The examples of v5 4.7 and the corners between them.
    #[test]
    fn table_of_matches() {
        let table: [(&str, &[&str], &[&str]); 12] = [
            (
                "sport/tennis/player1/#",
                &[
                    "sport/tennis/player1",
                    "sport/tennis/player1/ranking",
                    "sport/tennis/player1/score/wimbledon",
                ],
                &["sport/tennis/player2", "sport/tennis"],
            ),
            ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "a/sport"]),
            ("#", &["a", "/", "a/b/c", "//"], &["$SYS", "$SYS/a"]),
            (
                "sport/tennis/+",
                &["sport/tennis/player1", "sport/tennis/"],
                &["sport/tennis/player1/ranking", "sport/tennis"],
            ),
            ("sport/+", &["sport/"], &["sport", "sport/a/b"]),
            ("+", &["finance"], &["/finance", "$SYS"]),
            ("+/+", &["/finance", "a/b"], &["a", "a/b/c", "$SYS/a"]),
            ("/+", &["/finance"], &["finance", "/a/b"]),
            ("+/tennis/#", &["a/tennis", "a/tennis/b"], &["$x/tennis/b", "tennis"]),
            ("$SYS/#", &["$SYS", "$SYS/monitor"], &["SYS", "$SYSx"]),
            ("$SYS/monitor/+", &["$SYS/monitor/Clients"], &["$SYS/monitor"]),
            ("a//b", &["a//b"], &["a/b", "a///b", "A//b"]),
        ];
        for (filter, matched, others) in table {
            let filter = Filter::new(filter).unwrap();
            for topic in matched {
                assert!(filter.matches(topic), "{filter:?} {topic}");
                assert!(topic.starts_with(filter.literal_prefix()), "{filter:?} {topic}");
            }
            for topic in others {
                assert!(!filter.matches(topic), "{filter:?} {topic}");
            }
        }
    }
}
