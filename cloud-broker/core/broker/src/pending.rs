//! Who waits for what: answers that leave when a slot or a checkpoint is durable, fetches that leave when there is more to
//! read.
//!
//! Nothing of this survives a crash: clients ask again.

use std::collections::{BTreeMap, BTreeSet};

use broker_log::store::CheckpointId;
use broker_log::{PartitionKey, SlotNo};
use wire::time::MonoMs;

use crate::event::{Asker, ClientId};

/// Answers that leave in the order in which they were parked, once their slot is durable.
#[derive(Debug)]
pub(crate) struct ParkedAnswers<T> {
    by_slot: BTreeMap<SlotNo, Vec<T>>,
}

impl<T> ParkedAnswers<T> {
    pub(crate) fn new() -> Self {
        Self { by_slot: BTreeMap::new() }
    }

    pub(crate) fn park(&mut self, slot_no: SlotNo, answer: T) {
        self.by_slot.entry(slot_no).or_default().push(answer);
    }

    /// Takes what waited for slots up to and including `slot_no`.
    pub(crate) fn release(&mut self, slot_no: SlotNo) -> impl Iterator<Item = T> + use<T> {
        let later = self.by_slot.split_off(&slot_no.next());
        let ready = std::mem::replace(&mut self.by_slot, later);
        ready.into_values().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_slot.values().map(Vec::len).sum()
    }
}

/// Answers that wait for a checkpoint, or their deadline. Each is named by its asker.
#[derive(Debug)]
pub(crate) struct ParkedForCheckpoint<T> {
    answers: BTreeMap<Asker, (u64, MonoMs, T)>,
    /// By the number of the checkpoint: the later ones of a log have greater ones, whosever they are.
    checkpoints: BTreeSet<(u64, Asker)>,
    deadlines: BTreeSet<(MonoMs, Asker)>,
}

impl<T> ParkedForCheckpoint<T> {
    pub(crate) fn new() -> Self {
        Self { answers: BTreeMap::new(), checkpoints: BTreeSet::new(), deadlines: BTreeSet::new() }
    }

    pub(crate) fn park(&mut self, asker: Asker, id: CheckpointId, deadline: MonoMs, answer: T) {
        self.take(asker);
        self.checkpoints.insert((id.n, asker));
        self.deadlines.insert((deadline, asker));
        self.answers.insert(asker, (id.n, deadline, answer));
    }

    /// Takes an answer that waited for this checkpoint or an earlier one.
    pub(crate) fn release(&mut self, id: CheckpointId) -> Option<(Asker, T)> {
        let &(n, asker) = self.checkpoints.first()?;
        if n > id.n {
            return None;
        }
        Some((asker, self.take(asker)?))
    }

    /// Takes an answer whose deadline has come.
    pub(crate) fn take_due(&mut self, now: MonoMs) -> Option<(Asker, T)> {
        let &(deadline, asker) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        Some((asker, self.take(asker)?))
    }

    pub(crate) fn next_deadline(&self) -> Option<MonoMs> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Forgets what a client waits for that has gone.
    pub(crate) fn forget(&mut self, client: ClientId) {
        let all = Asker { client, token: 0 }..=Asker { client, token: u64::MAX };
        let askers: Vec<Asker> = self.answers.range(all).map(|(&asker, _)| asker).collect();
        for asker in askers {
            self.take(asker);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    fn take(&mut self, asker: Asker) -> Option<T> {
        let (n, deadline, answer) = self.answers.remove(&asker)?;
        self.checkpoints.remove(&(n, asker));
        self.deadlines.remove(&(deadline, asker));
        Some(answer)
    }
}

/// Fetches that wait for data or their deadline. Each is named by its asker.
#[derive(Debug)]
pub(crate) struct ParkedFetches<F> {
    fetches: BTreeMap<Asker, Parked<F>>,
    deadlines: BTreeSet<(MonoMs, Asker)>,
    watchers: BTreeSet<(PartitionKey, Asker)>,
}

#[derive(Debug)]
struct Parked<F> {
    fetch: F,
    deadline: MonoMs,
    watched: Vec<PartitionKey>,
}

impl<F> ParkedFetches<F> {
    pub(crate) fn new() -> Self {
        Self { fetches: BTreeMap::new(), deadlines: BTreeSet::new(), watchers: BTreeSet::new() }
    }

    /// Parks a fetch until `deadline`, to be looked at again whenever one of `watched` moves.
    pub(crate) fn park(
        &mut self,
        asker: Asker,
        deadline: MonoMs,
        watched: Vec<PartitionKey>,
        fetch: F,
    ) {
        self.take(asker);
        self.deadlines.insert((deadline, asker));
        self.watchers.extend(watched.iter().map(|&partition| (partition, asker)));
        let parked = Parked { fetch, deadline, watched };
        self.fetches.insert(asker, parked);
    }

    /// Takes a fetch out, because it is going to be answered.
    pub(crate) fn take(&mut self, asker: Asker) -> Option<F> {
        let parked = self.fetches.remove(&asker)?;
        self.deadlines.remove(&(parked.deadline, asker));
        for partition in parked.watched {
            self.watchers.remove(&(partition, asker));
        }
        Some(parked.fetch)
    }

    pub(crate) fn fetch(&self, asker: Asker) -> Option<&F> {
        self.fetches.get(&asker).map(|parked| &parked.fetch)
    }

    /// Who watches one of the partitions that moved, each once.
    pub(crate) fn watching(
        &self,
        moved: impl IntoIterator<Item = PartitionKey>,
    ) -> BTreeSet<Asker> {
        let mut askers = BTreeSet::new();
        for partition in moved {
            let all = (partition, Asker::MIN)..=(partition, Asker::MAX);
            askers.extend(self.watchers.range(all).map(|&(_, asker)| asker));
        }
        askers
    }

    /// A fetch whose deadline has come.
    pub(crate) fn due(&self, now: MonoMs) -> Option<Asker> {
        let &(deadline, asker) = self.deadlines.first()?;
        (deadline <= now).then_some(asker)
    }

    pub(crate) fn next_deadline(&self) -> Option<MonoMs> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Forgets what a client waits for that has gone.
    pub(crate) fn forget(&mut self, client: ClientId) {
        let all = Asker { client, token: 0 }..=Asker { client, token: u64::MAX };
        let askers: Vec<Asker> = self.fetches.range(all).map(|(&asker, _)| asker).collect();
        for asker in askers {
            self.take(asker);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.fetches.len()
    }
}

#[cfg(test)]
mod tests {
    use broker_log::TopicNo;
    use wire::ids::Partition;

    use super::*;

    const P0: PartitionKey = PartitionKey { topic_no: TopicNo(1), partition: Partition(0) };
    const P1: PartitionKey = PartitionKey { topic_no: TopicNo(1), partition: Partition(1) };

    fn asker(client: u64, token: u64) -> Asker {
        Asker { client: ClientId(client), token }
    }

    #[test]
    fn answers_leave_in_order_and_only_when_durable() {
        let mut parked = ParkedAnswers::new();
        for (slot, name) in [(3, "b"), (2, "a"), (3, "c"), (4, "d")] {
            parked.park(SlotNo(slot), name);
        }
        assert_eq!(parked.release(SlotNo(1)).count(), 0);
        assert_eq!(parked.release(SlotNo(3)).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(parked.len(), 1);
        assert_eq!(parked.release(SlotNo(4)).collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn answers_wait_for_a_checkpoint_or_their_deadline() {
        let mut parked = ParkedForCheckpoint::new();
        let id = |life, n| CheckpointId { incarnation: wire::ids::Incarnation([life; 16]), n };
        for (token, n, deadline, name) in [(1, 7, 30, "a"), (2, 8, 10, "b"), (3, 9, 20, "c")] {
            parked.park(asker(1, token), id(9, n), MonoMs(deadline), name);
        }
        parked.park(asker(2, 1), id(9, 7), MonoMs(40), "d");
        assert_eq!(parked.release(id(9, 6)), None);
        // An incarnation says nothing about what comes later.
        assert_eq!(parked.release(id(1, 7)), Some((asker(1, 1), "a")));
        assert_eq!(parked.next_deadline(), Some(MonoMs(10)));
        assert_eq!(parked.take_due(MonoMs(9)), None);
        assert_eq!(parked.take_due(MonoMs(10)), Some((asker(1, 2), "b")));
        parked.forget(ClientId(1));
        assert_eq!((parked.len(), parked.next_deadline()), (1, Some(MonoMs(40))));
        assert_eq!(parked.release(id(9, 20)), Some((asker(2, 1), "d")));
        assert_eq!((parked.release(id(9, 20)), parked.take_due(MonoMs(99))), (None, None));
        assert!(parked.checkpoints.is_empty() && parked.deadlines.is_empty());
    }

    #[test]
    fn fetches_are_found_by_partition_deadline_and_client() {
        let mut parked = ParkedFetches::new();
        parked.park(asker(1, 1), MonoMs(30), vec![P0, P1], "x");
        parked.park(asker(1, 2), MonoMs(10), vec![P1], "y");
        parked.park(asker(2, 1), MonoMs(20), vec![P1], "z");
        assert_eq!(parked.watching([P0, P1]).len(), 3);
        assert_eq!(parked.watching([P0]), BTreeSet::from([asker(1, 1)]));
        assert_eq!(parked.due(MonoMs(9)), None);
        assert_eq!(parked.due(MonoMs(10)), Some(asker(1, 2)));
        assert_eq!(parked.take(asker(1, 2)), Some("y"));
        assert_eq!(parked.next_deadline(), Some(MonoMs(20)));
        parked.forget(ClientId(1));
        assert_eq!(parked.watching([P0, P1]), BTreeSet::from([asker(2, 1)]));
        parked.forget(ClientId(2));
        assert_eq!((parked.len(), parked.next_deadline()), (0, None));
        assert!(parked.watchers.is_empty() && parked.deadlines.is_empty());
    }
}
