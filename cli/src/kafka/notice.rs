//! What a reader tells the person who waits for records, besides records.

use std::fmt;

/// Something happened to the connection or the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The broker answers again.
    Back,
    /// The broker cannot be reached or does not answer; said once until it is back.
    Lost {
        /// Where it was looked for.
        address: String,
        /// Why, for people.
        reason: String,
    },
    /// The topic is there, or has more partitions than before.
    Partitions {
        /// Its name.
        topic: String,
        /// How many there are.
        count: usize,
    },
    /// The topic does not exist; said once until it does.
    TopicMissing {
        /// Its name.
        topic: String,
    },
    /// The topic was deleted and made again, so its offsets start over.
    TopicNew {
        /// Its name.
        topic: String,
    },
    /// The wanted offset is not in the log: the log begins later, or ends before it.
    Skipped {
        /// The partition.
        partition: i32,
        /// The wanted offset.
        from: i64,
        /// Where reading goes on.
        to: i64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Back => write!(f, "the broker answers again"),
            Self::Lost { address, reason } => write!(f, "{address}: {reason}; trying again"),
            Self::Partitions { topic, count: 1 } => write!(f, "following {topic}, 1 partition"),
            Self::Partitions { topic, count } => write!(f, "following {topic}, {count} partitions"),
            Self::TopicMissing { topic } => {
                write!(f, "topic {topic} does not exist; waiting for it")
            }
            Self::TopicNew { topic } => {
                write!(f, "topic {topic} was deleted and made again; reading it from its start")
            }
            Self::Skipped { partition, from, to } => write!(
                f,
                "partition {partition}: offset {from} is not in the log; going on at {to}"
            ),
        }
    }
}
