//! When to look at which group again.

use std::collections::{BTreeMap, BTreeSet};

use wire::time::MonoMs;

use crate::ids::GroupId;

/// One deadline for each group that has one: the earliest of all that its members wait for. Heartbeats move a member's
/// deadline without touching this; who looks at a group too early computes the next one.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(MonoMs, GroupId)>,
    by_group: BTreeMap<GroupId, MonoMs>,
}

impl Timers {
    pub(crate) fn set(&mut self, group: &GroupId, deadline: Option<MonoMs>) {
        if self.by_group.get(group).copied() == deadline {
            return;
        }
        self.clear(group);
        if let Some(deadline) = deadline {
            self.by_group.insert(group.clone(), deadline);
            self.queue.insert((deadline, group.clone()));
        }
    }

    fn clear(&mut self, group: &GroupId) {
        if let Some(deadline) = self.by_group.remove(group) {
            self.queue.remove(&(deadline, group.clone()));
        }
    }

    /// The groups whose deadline has come, each once.
    pub(crate) fn take_due(&mut self, now: MonoMs) -> Vec<GroupId> {
        let mut due = Vec::new();
        while let Some((deadline, group)) = self.queue.pop_first() {
            if deadline > now {
                self.queue.insert((deadline, group));
                break;
            }
            self.by_group.remove(&group);
            due.push(group);
        }
        due
    }

    pub(crate) fn next(&self) -> Option<MonoMs> {
        self.queue.first().map(|&(deadline, _)| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_one_deadline() {
        let (a, b) = (GroupId::from("a"), GroupId::from("b"));
        let mut timers = Timers::default();
        timers.set(&a, Some(MonoMs(10)));
        timers.set(&b, Some(MonoMs(5)));
        timers.set(&a, Some(MonoMs(3)));
        assert_eq!(timers.next(), Some(MonoMs(3)));
        assert_eq!(timers.take_due(MonoMs(2)), []);
        timers.set(&b, Some(MonoMs(3)));
        assert_eq!(timers.take_due(MonoMs(3)), [a.clone(), b]);
        timers.set(&a, Some(MonoMs(4)));
        timers.set(&a, None);
        assert_eq!((timers.next(), timers.by_group.len()), (None, 0));
    }
}
