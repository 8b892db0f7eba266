//! The one task that drives the broker, and the way to it.
//!
//! Two bounded mailboxes lead here: one for what only reads, one for what appends. While too much waits for the disk the
//! second one is left alone, so that producers' sockets fill up while consumers are served. Whatever queued during one
//! sync goes into the next slot.

mod log_events;
mod mailbox;

use std::collections::HashMap;
use std::sync::Arc;

use broker_core::{
    Answer, Asker, Broker, BrokerStats, ClientId, ControlWrite, Effect, Event, GroupsChunk,
    GroupsRead,
};
use process::{Clock, FatalError, ShutdownTrigger};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wire::time::MonoMs;

use crate::control_store::{ControlError, ControlStore};
use crate::health::Health;
use crate::kafka_tcp::read_piece;
use crate::log_folder::{LogFolder, SpaceKeeper, SpaceReport, WalEvent, WalWriter};
use crate::metrics;

pub(crate) use log_events::log_events;
pub(crate) use mailbox::{Client, EngineGone, EngineHandle, Leaving, Mailboxes, mailboxes};

use mailbox::Message;

/// Messages of one mailbox that are taken before effects are carried out.
const BATCH_LEN: usize = 256;

/// What the engine's task owns.
pub(crate) struct Engine {
    pub(crate) broker: Broker,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<ControlStore>,
    pub(crate) health: Arc<Health>,
    pub(crate) folder: LogFolder,
    pub(crate) keeper: SpaceKeeper,
    pub(crate) space: watch::Receiver<SpaceReport>,
    pub(crate) trigger: ShutdownTrigger,
    pub(crate) wal_events: mpsc::Receiver<WalEvent>,
    pub(crate) writer: WalWriter,
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
            syncing_since: None,
            shown: None,
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
    syncing_since: Option<Instant>,
    /// What the metrics say.
    shown: Option<BrokerStats>,
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
        // Dropping the writer waits for its thread; its clients notice their answers end.
        let writer = self.engine.writer;
        let _ = tokio::task::spawn_blocking(move || drop(writer)).await;
    }

    async fn turn(&mut self, mailboxes: &mut Mailboxes, done: &mut Done) -> End {
        let mut open = Open { appends: true, requests: true };
        mailboxes.show_keyed(self.engine.broker.keyed_topics());
        loop {
            let clock = self.engine.clock;
            let deadline = self.engine.broker.next_deadline();
            let at = clock.instant_at(deadline.unwrap_or(MonoMs(u64::MAX)));
            let takes_appends = self.engine.broker.wants_appends();
            tokio::select! {
                biased;
                event = self.engine.wal_events.recv() => {
                    if self.wal_event(event).is_err() {
                        return End::Failed;
                    }
                }
                Some(result) = done.control.recv() => {
                    if self.control_result(result).is_err() {
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
                () = tokio::time::sleep_until(at), if deadline.is_some() => {}
            }
            self.take_more(mailboxes);
            // In every turn: while there is always a message, the last arm is never reached.
            self.engine.broker.handle_deadlines(clock.mono(), clock.wall(), &mut self.effects);
            // Before whoever changed a topic is answered.
            mailboxes.show_keyed(self.engine.broker.keyed_topics());
            self.carry_out();
            if self.write_next().is_err() {
                return End::Failed;
            }
            if !open.appends && !open.requests && self.syncing_since.is_none() {
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

    fn wal_event(&mut self, event: Option<WalEvent>) -> Result<(), EngineGone> {
        match event {
            Some(WalEvent::Durable(slot_no)) => {
                if let Some(since) = self.syncing_since.take() {
                    metrics::synced(since.elapsed());
                }
                self.engine.health.synced();
                self.engine.broker.slot_durable(slot_no, &mut self.effects);
                Ok(())
            }
            Some(WalEvent::Failed(error)) => Err(self.fail("wal", error.to_string())),
            None => Err(self.fail("wal", "the writing thread has ended".to_owned())),
        }
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
        let folder = self.engine.folder.clone();
        let done = self.groups_done.clone();
        tokio::task::spawn_blocking(move || {
            let (chunk, skipped) = read.run(&mut |piece| read_piece(&folder, piece));
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

    fn write_next(&mut self) -> Result<(), EngineGone> {
        let Some(slot) = self.engine.broker.take_slot() else {
            return Ok(());
        };
        let now = self.engine.clock.mono();
        metrics::writing(slot.bytes.len());
        self.syncing_since = Some(Instant::now());
        self.engine.health.syncing(now);
        // A writer that has stopped reports why by its last event; this is only met if that was lost.
        match self.engine.writer.write(slot) {
            Ok(()) => Ok(()),
            Err(stopped) => Err(self.fail("wal", stopped.to_string())),
        }
    }

    fn fail(&self, component: &'static str, detail: String) -> EngineGone {
        self.engine.trigger.fatal(FatalError { component, detail });
        EngineGone
    }
}

/// Which mailboxes somebody can still write to.
struct Open {
    appends: bool,
    requests: bool,
}
