//! A member of a group.

use bytes::Bytes;
use wire::time::MonoMs;

use crate::ids::{InstanceId, MemberId};
use crate::record::SavedMember;
use crate::request::{JoinGroup, Protocol};
use crate::settings::REBALANCE_TIMEOUT_MS_MIN;

/// What a member takes of memory beside its texts and metadata, rounded up.
const MEMBER_BYTES: usize = 256;

/// A member, and what it waits for.
#[derive(Debug)]
pub(crate) struct Member<A> {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Who waits for the rebalance.
    pub(crate) joining: Option<A>,
    /// Who waits for the assignment.
    pub(crate) syncing: Option<A>,
    /// Whether it has to fetch its assignment of this generation.
    pub(crate) must_sync: bool,
    /// Whether it has never been in a generation: it waits for its first one.
    pub(crate) is_new: bool,
    /// When it is taken for gone, unless it waits for something.
    pub(crate) deadline: MonoMs,
}

impl<A: Copy> Member<A> {
    /// Somebody who joins and waits; `deadline` is when that ends.
    pub(crate) fn new(join: &JoinGroup, asker: A, deadline: MonoMs) -> Self {
        Self {
            instance: join.member.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            joining: Some(asker),
            syncing: None,
            must_sync: false,
            is_new: true,
            deadline,
        }
    }

    pub(crate) fn saved(saved: &SavedMember, protocol: &str, now: MonoMs) -> Self {
        let mut member = Self {
            instance: saved.instance.clone(),
            client_id: saved.client_id.clone(),
            client_host: saved.client_host.clone(),
            rebalance_timeout_ms: saved.rebalance_timeout_ms,
            session_timeout_ms: saved.session_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.to_owned(),
                metadata: saved.subscription.clone(),
            }],
            assignment: saved.assignment.clone(),
            joining: None,
            syncing: None,
            must_sync: false,
            is_new: false,
            deadline: now,
        };
        member.restart_session(now);
        member
    }

    pub(crate) fn save(&self, id: &MemberId, protocol: &str, assignment: Bytes) -> SavedMember {
        SavedMember {
            id: id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// Takes over what a member offers that joins again.
    pub(crate) fn rejoin(&mut self, join: &JoinGroup) {
        self.protocols.clone_from(&join.protocols);
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.session_timeout_ms = join.session_timeout_ms;
        self.client_id.clone_from(&join.client_id);
        self.client_host.clone_from(&join.client_host);
    }

    pub(crate) fn restart_session(&mut self, now: MonoMs) {
        self.deadline = now + u64::try_from(self.session_timeout_ms).unwrap_or(0);
    }

    pub(crate) fn rebalance_timeout_ms(&self) -> u64 {
        u64::try_from(self.rebalance_timeout_ms.max(REBALANCE_TIMEOUT_MS_MIN)).unwrap_or(0)
    }

    /// Whether the member gets on without a heartbeat: it waits for an answer of ours. A new one does not for ever, as
    /// nobody would notice that it has gone.
    pub(crate) fn waits(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| offered.name == protocol)
    }

    /// Its metadata for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self.protocols.iter().find(|offered| offered.name == protocol);
        offered.map_or(Bytes::new(), |offered| offered.metadata.clone())
    }

    /// Memory that it takes, its assignment apart.
    pub(crate) fn bytes(&self) -> usize {
        let client = (self.client_id.as_str(), self.client_host.as_str());
        member_bytes(client, self.instance.as_ref(), &self.protocols)
    }
}

/// Memory that a member takes once it has joined this way.
pub(crate) fn joined_bytes(join: &JoinGroup) -> usize {
    let client = (join.client_id.as_str(), join.client_host.as_str());
    member_bytes(client, join.member.instance.as_ref(), &join.protocols)
}

/// Memory that an id takes which was given out and not joined with yet.
pub(crate) fn pending_bytes(id: &MemberId) -> usize {
    MEMBER_BYTES + id.as_str().len()
}

fn member_bytes(
    (client_id, host): (&str, &str),
    instance: Option<&InstanceId>,
    protocols: &[Protocol],
) -> usize {
    let instance_bytes = instance.map_or(0, |instance| instance.as_str().len());
    // What the coordinator calls a member begins with what it calls itself.
    let id_bytes = if instance.is_some() { instance_bytes } else { client_id.len() };
    let texts = client_id.len() + host.len() + instance_bytes + id_bytes;
    let offers = protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
    MEMBER_BYTES + texts + offers.sum::<usize>()
}
