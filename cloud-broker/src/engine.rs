//! The one task that drives the broker, and the way to it.
//!
//! Two bounded mailboxes lead here: one for what only reads, one for what appends. While too much waits for the disk the
//! second one is left alone, so that producers' sockets fill up while consumers are served. Whatever queued during one
//! sync goes into the next slot.

mod log_events;
mod mailbox;
mod storage;
mod sync_watch;

use std::collections::HashMap;
use std::sync::Arc;

use broker_core::{
    Answer, Asker, Broker, BrokerStats, ClientId, ControlWrite, Effect, Event, GroupsChunk,
    GroupsRead,
};
use process::{Clock, ShutdownTrigger};
use tokio::sync::mpsc;
use wire::time::MonoMs;

use crate::control_store::{ControlError, ControlStore};
use crate::health::Health;
use crate::metrics;

pub(crate) use log_events::{WalEvents, log_events};
pub(crate) use mailbox::{Client, EngineGone, EngineHandle, Leaving, Mailboxes, mailboxes};
pub(crate) use storage::LogThreads;

use mailbox::Message;
use storage::Storage;

/// Messages of one mailbox that are taken before effects are carried out.
const BATCH_LEN: usize = 256;

/// What the engine's task owns.
pub(crate) struct Engine {
    pub(crate) broker: Broker,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<ControlStore>,
    pub(crate) health: Arc<Health>,
    pub(crate) log: LogThreads,
    pub(crate) trigger: ShutdownTrigger,
}

impl Engine {
    /// Runs until every handle is dropped and everything that was appended is durable, or until the log fails.
    pub(crate) async fn run(self, mailboxes: Mailboxes) {
        let (control_done, control_events) = mpsc::channel(1);
        let (groups_done, groups_events) = mpsc::channel(1);
        let driver = Driver {
            clients: HashMap::new(),
            effects: Vec::new(),
            control_done,
            groups_done,
            shown: None,
            storage: Storage::new(&self.log),
            engine: self,
        };
        driver.run(mailboxes, Done { control: control_events, groups: groups_events }).await;
    }
}

/// Why the engine ends.
enum End {
    /// A part that it needs has failed, which is reported.
    Failed,
    /// Nobody can reach it any more, and everything is on disk.
    Idle,
}

struct Driver {
    engine: Engine,
    clients: HashMap<ClientId, mpsc::Sender<(u64, Answer)>>,
    effects: Vec<Effect>,
    control_done: mpsc::Sender<Result<u64, ControlError>>,
    groups_done: mpsc::Sender<GroupsChunk>,
    /// What the metrics say.
    shown: Option<BrokerStats>,
    storage: Storage,
}

/// What blocking work reports: one write of the control store and one read of groups at a time.
struct Done {
    control: mpsc::Receiver<Result<u64, ControlError>>,
    groups: mpsc::Receiver<GroupsChunk>,
}

impl Driver {
    async fn run(mut self, mut mailboxes: Mailboxes, mut done: Done) {
        let end = self.turn(&mut mailboxes, &mut done).await;
        match end {
            End::Failed => self.engine.health.failed(),
            End::Idle => self.engine.health.stopped(),
        }
        // Clients notice that their answers end.
        self.engine.log.end(end).await;
    }

    async fn turn(&mut self, mailboxes: &mut Mailboxes, done: &mut Done) -> End {
        let mut open = Open { appends: true, requests: true };
        self.tell_room();
        mailboxes.show_keyed(self.engine.broker.keyed_topics());
        loop {
            let clock = self.engine.clock;
            let deadline = self.engine.broker.next_deadline().unwrap_or(MonoMs(u64::MAX));
            let at = clock.instant_at(deadline).min(self.storage.deadline());
            let takes_appends = self.engine.broker.wants_appends();
            let log = &mut self.engine.log;
            tokio::select! {
                biased;
                event = log.reports.wal.recv() => {
                    if self.wal_event(event).is_err() {
                        return End::Failed;
                    }
                }
                Some(result) = done.control.recv() => {
                    if self.control_result(result).is_err() {
                        return End::Failed;
                    }
                }
                Some(report) = log.reports.jobs.recv() => self.job_report(report),
                changed = log.reports.space.changed() => {
                    if self.space_event(changed.is_ok()).is_err() {
                        return End::Failed;
                    }
                }
                Some(chunk) = done.groups.recv() => self.handle(Event::GroupsRead(chunk)),
                message = mailboxes.requests.recv(), if open.requests => match message {
                    Some(message) => self.take(message),
                    None => open.requests = false,
                },
                message = mailboxes.appends.recv(), if open.appends && takes_appends => match message {
                    Some(message) => self.take(message),
                    None => open.appends = false,
                },
                () = tokio::time::sleep_until(at) => {}
            }
            self.take_more(mailboxes);
            // In every turn: while there is always a message, the last arm is never reached.
            self.engine.broker.handle_deadlines(clock.mono(), clock.wall(), &mut self.effects);
            // Before whoever changed a topic is answered.
            mailboxes.show_keyed(self.engine.broker.keyed_topics());
            self.carry_out();
            self.start_jobs();
            if self.write_next().is_err() || self.storage_deadlines().is_err() {
                return End::Failed;
            }
            if mailboxes.are_empty() {
                self.engine.broker.lay_out_ahead();
            }
            if !open.appends && !open.requests && self.is_finished() {
                return End::Idle;
            }
        }
    }

    /// Takes what else is there, so that it shares one slot and one round of answers.
    fn take_more(&mut self, mailboxes: &mut Mailboxes) {
        for _ in 0..BATCH_LEN {
            match mailboxes.requests.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
        for _ in 0..BATCH_LEN {
            if !self.engine.broker.wants_appends() {
                break;
            }
            match mailboxes.appends.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Close(client) => {
                self.clients.remove(&client);
                self.handle(Event::ClientGone(client));
            }
            // The memory is given back here: the batches are staged, which the log bounds by itself.
            Message::Event(event, _held) => self.handle(event),
            Message::Open { client, answers, done } => {
                self.clients.insert(client, answers);
                // A client that does not wait any more closes itself.
                let _ = done.send(());
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let Engine { broker, clock, .. } = &mut self.engine;
        broker.handle(clock.mono(), clock.wall(), event, &mut self.effects);
    }

    fn control_result(&mut self, result: Result<u64, ControlError>) -> Result<(), EngineGone> {
        match result {
            Ok(version) => self.handle(Event::ControlStored(version)),
            Err(error @ ControlError::Unchanged { .. }) => {
                tracing::error!("topics are not made: {error}");
                self.handle(Event::ControlNotStored);
            }
            Err(
                error @ (ControlError::Conflict { .. }
                | ControlError::Damaged(_)
                | ControlError::Unknown { .. }),
            ) => return Err(self.fail("control store", error.to_string())),
        }
        Ok(())
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Answer(asker, answer) => self.answer(asker, answer),
                Effect::ReadGroups(read) => self.read_groups(read),
                Effect::StoreControl(write) => self.store_control(write),
            }
        }
        let stats = self.engine.broker.stats();
        if self.shown != Some(stats) {
            metrics::broker(&stats);
            self.shown = Some(stats);
        }
    }

    fn answer(&self, asker: Asker, answer: Answer) {
        // There is room for an answer to every request that a client may have unanswered; one that left needs none.
        if let Some(client) = self.clients.get(&asker.client)
            && let Err(mpsc::error::TrySendError::Full(_)) = client.try_send((asker.token, answer))
        {
            tracing::error!(client = asker.client.0, "more answers than requests");
        }
    }

    fn store_control(&self, write: ControlWrite) {
        let control = Arc::clone(&self.engine.control);
        let done = self.control_done.clone();
        tokio::task::spawn_blocking(move || {
            let result = control.cas(write.expected_version, &write.bytes);
            // An engine that has ended does not ask.
            let _ = done.blocking_send(result);
        });
    }

    fn read_groups(&self, read: GroupsRead) {
        let mut reader = self.engine.log.reader.clone();
        let done = self.groups_done.clone();
        tokio::task::spawn_blocking(move || {
            let (chunk, skipped) = read.run(&mut |piece| reader.read(piece));
            let partition = chunk.partition();
            if chunk.failed() {
                tracing::error!(
                    partition,
                    "records of consumer groups cannot be read; trying again"
                );
            }
            if skipped > 0 {
                tracing::warn!(
                    partition,
                    skipped,
                    "records of consumer groups are of unknown kinds"
                );
            }
            // An engine that has ended does not ask.
            let _ = done.blocking_send(chunk);
        });
    }
}

/// Which mailboxes somebody can still write to.
struct Open {
    appends: bool,
    requests: bool,
}
