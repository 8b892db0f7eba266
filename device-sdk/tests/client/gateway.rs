//! A gateway by script: MQTT 5 as far as a device needs it, D2, and on each connection one kind of misbehaviour.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use wire::batch::BatchReader;
use wire::ids::SpoolId;

/// What happens on one connection.
#[derive(Debug, Clone, Copy)]
pub enum Script {
    /// Everything as it should be.
    Serve,
    /// Closes where it should say CONNACK.
    Close,
    /// Answers the CONNECT with this reason code.
    RefuseConnect(u8),
    /// Reads, and never says a word.
    Silent,
    /// Subscriptions are accepted, but nothing is retained.
    NoSpool,
    /// Refuses the subscription with this reason code.
    RefuseSubscribe(u8),
    /// Stores what comes, and acknowledges nothing.
    NoPuback,
    /// Takes this many publishes; the last one it stores, and closes instead of acknowledging it.
    LosePuback(u32),
    /// Refuses the publish that holds this reading, with this reason code.
    Refuse(u64, u8),
    /// Takes no packet longer than this.
    PacketMax(u32),
}

/// What a gateway remembers, and what tests look at.
pub struct Gateway {
    pub spool: Cell<SpoolId>,
    /// Sequence and flag of every stored reading.
    pub stored: RefCell<Vec<(u64, bool)>>,
    pub declared_lost: Cell<u64>,
    pub connections: Cell<u32>,
    /// Told of every PINGREQ.
    pub pinged: Notify,
    pub topics: RefCell<Vec<String>>,
    last: Cell<u64>,
    scripts: RefCell<VecDeque<Script>>,
}

impl Gateway {
    /// Follows one script after the other, and then serves.
    pub fn new(scripts: &[Script]) -> Self {
        Self {
            spool: Cell::new(SpoolId([7; 16])),
            stored: RefCell::default(),
            declared_lost: Cell::default(),
            connections: Cell::default(),
            pinged: Notify::new(),
            topics: RefCell::default(),
            last: Cell::default(),
            scripts: RefCell::new(scripts.iter().copied().collect()),
        }
    }

    /// Numbers of the stored readings.
    pub fn sequences(&self) -> Vec<u64> {
        self.stored.borrow().iter().map(|(seq, _)| *seq).collect()
    }

    /// Another spool in the place of this one: nothing is known of any device.
    pub fn replace_spool(&self, spool: SpoolId) {
        self.spool.set(spool);
        self.last.set(0);
    }

    /// Serves one connection after the other, for ever.
    pub async fn run(&self, mut accepted: UnboundedReceiver<DuplexStream>) {
        while let Some(stream) = accepted.recv().await {
            self.connections.set(self.connections.get() + 1);
            let script = self.scripts.borrow_mut().pop_front().unwrap_or(Script::Serve);
            // An end of the stream is the end of the connection and nothing else.
            let _ = self.connection(stream, script).await;
        }
    }

    async fn connection(&self, mut stream: DuplexStream, script: Script) -> std::io::Result<()> {
        let mut connection = Connection { script, is_first: true, publishes: 0 };
        loop {
            let (kind, body) = read_packet(&mut stream).await?;
            if matches!(script, Script::Silent) {
                continue;
            }
            match self.answer(&mut connection, kind, &body) {
                Some(answer) => stream.write_all(&answer).await?,
                None => return Ok(()),
            }
        }
    }

    /// The bytes to answer with; `None` closes.
    fn answer(&self, connection: &mut Connection, kind: u8, body: &[u8]) -> Option<Vec<u8>> {
        match kind >> 4 {
            1 => match connection.script {
                Script::Close => None,
                Script::RefuseConnect(code) => Some(vec![0x20, 3, 0, code, 0]),
                Script::PacketMax(max) => {
                    let mut connack = vec![0x20, 8, 0, 0, 5, 0x27];
                    connack.extend(max.to_be_bytes());
                    Some(connack)
                }
                _ => Some(vec![0x20, 3, 0, 0, 0]),
            },
            3 => self.publish(connection, body),
            8 => Some(self.subscribe(connection, body)),
            12 => {
                self.pinged.notify_one();
                Some(vec![0xd0, 0])
            }
            _ => None,
        }
    }

    /// The retained message goes out before the SUBACK, as MQTT allows.
    fn subscribe(&self, connection: &Connection, body: &[u8]) -> Vec<u8> {
        let code = match connection.script {
            Script::RefuseSubscribe(code) => code,
            _ => 0,
        };
        let suback = [0x90, 4, body[0], body[1], 0, code];
        if code != 0 || matches!(connection.script, Script::NoSpool) {
            return suback.to_vec();
        }
        let topic = "culvert/v1/gateway";
        let payload = format!("{} and more", self.spool.get());
        let len = 2 + topic.len() + 1 + payload.len();
        let mut answer = vec![0x31, u8::try_from(len).unwrap(), 0, topic.len() as u8];
        answer.extend(topic.bytes().chain([0]).chain(payload.bytes()).chain(suback));
        answer
    }

    fn publish(&self, connection: &mut Connection, body: &[u8]) -> Option<Vec<u8>> {
        let (topic, rest) = body[2..].split_at(usize::from(body[1]));
        let (packet_id, rest) = rest.split_at(2);
        let (properties, payload) = rest[1..].split_at(usize::from(rest[0]));
        let maybe_dup = properties.windows(12).any(|window| window == b"cv-maybe-dup");
        self.topics.borrow_mut().push(String::from_utf8(topic.to_vec()).unwrap());
        let reader = BatchReader::new(payload).unwrap();
        let header = *reader.header();
        let end = header.first.0 + reader.count() as u64;
        if let Script::Refuse(seq, code) = connection.script
            && (header.first.0..end).contains(&seq)
        {
            connection.script = Script::Close;
            return Some(vec![0x40, 3, packet_id[0], packet_id[1], code]);
        }
        if let Script::Close = connection.script {
            return None;
        }
        if end > self.last.get() + 1 {
            let expected = self.last.get() + 1 + header.lost_before;
            assert!(header.first.0 == expected || connection.is_first, "refused by D2");
            self.last.set(end - 1);
            self.declared_lost.set(self.declared_lost.get() + header.lost_before);
            self.stored.borrow_mut().extend((header.first.0..end).map(|seq| (seq, maybe_dup)));
        }
        connection.is_first = false;
        connection.publishes += 1;
        match connection.script {
            Script::LosePuback(count) if count == connection.publishes => None,
            Script::NoPuback => Some(Vec::new()),
            _ => Some(vec![0x40, 2, packet_id[0], packet_id[1]]),
        }
    }
}

struct Connection {
    script: Script,
    is_first: bool,
    publishes: u32,
}

async fn read_packet(stream: &mut DuplexStream) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await?;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}
