//! Topic aliases that a client has set up on this connection (v5 3.3.2.3.4).

use super::limits::TOPIC_ALIAS_MAX;
use super::text::Topic;

/// What the aliases of one connection stand for. Room is made with the first use, since most clients use none.
#[derive(Debug, Default)]
pub(super) struct TopicAliases(Vec<Option<Topic>>);

impl TopicAliases {
    /// Whether `alias` is one of those announced to the client.
    pub(super) fn allows(alias: u16) -> bool {
        (1..=TOPIC_ALIAS_MAX).contains(&alias)
    }

    /// Lets `alias`, which must be allowed, stand for `topic` from now on.
    pub(super) fn set(&mut self, alias: u16, topic: &Topic) {
        let index = usize::from(alias - 1);
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        // A copy of its own: the topic shares a read buffer, which an alias would keep for as long as the connection.
        self.0[index] = Some(topic.detached());
    }

    /// What `alias`, which must be allowed, stands for; `None` if the client has not said.
    pub(super) fn resolve(&self, alias: u16) -> Option<Topic> {
        self.0.get(usize::from(alias - 1))?.clone()
    }
}
