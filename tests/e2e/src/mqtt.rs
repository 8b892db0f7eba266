//! As much of MQTT 3.1.1 and 5 as a publishing client needs, written apart from the gateway's own codec so that one does
//! not hide the other's mistakes. Nothing is checked before it is sent: tests send what no library would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::wait::PATIENCE;

const READ_BYTES: usize = 16 << 10;

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Connect<'a> {
    /// The protocol.
    pub version: Version,
    /// Client identifier.
    pub client_id: &'a str,
    /// Topic of a will, whose message is empty.
    pub will_topic: Option<&'a str>,
}

/// A PUBLISH.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Quality of service.
    pub qos: u8,
    /// Packet identifier; not sent with QoS 0.
    pub packet_id: u16,
    /// User properties; not sent in 3.1.1.
    pub properties: &'a [(&'a str, &'a str)],
}

/// A packet from the server. Reason codes of 3.1.1 are its return codes, or 0 where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    Connack {
        /// Reason code.
        reason: u8,
    },
    /// DISCONNECT, which only MQTT 5 servers send.
    Disconnect {
        /// Reason code.
        reason: u8,
    },
    /// Any other, by its first byte.
    Other(u8),
    /// PUBACK.
    Puback {
        /// Packet identifier.
        packet_id: u16,
        /// Reason code.
        reason: u8,
    },
}

/// The bytes of a CONNECT with a clean start and a keep-alive time of a minute.
#[must_use]
pub fn connect_packet(connect: &Connect<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    push_text(&mut body, "MQTT");
    let flags = if connect.will_topic.is_some() { 6 } else { 2 };
    body.push(match connect.version {
        Version::V311 => 4,
        Version::V5 => 5,
    });
    body.push(flags);
    body.extend(60_u16.to_be_bytes());
    push_properties(&mut body, connect.version, &[]);
    push_text(&mut body, connect.client_id);
    if let Some(topic) = connect.will_topic {
        push_properties(&mut body, connect.version, &[]);
        push_text(&mut body, topic);
        push_text(&mut body, "");
    }
    packet(0x10, &body)
}

/// The bytes of a PUBLISH.
#[must_use]
pub fn publish_packet(version: Version, publish: &Publish<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(publish.payload.len() + publish.topic.len() + 64);
    push_text(&mut body, publish.topic);
    if publish.qos > 0 {
        body.extend(publish.packet_id.to_be_bytes());
    }
    push_properties(&mut body, version, publish.properties);
    body.extend(publish.payload);
    packet(0x30 | publish.qos << 1, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    push_length(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

fn push_length(bytes: &mut Vec<u8>, mut len: usize) {
    while len > 0x7f {
        bytes.push(len as u8 & 0x7f | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn push_properties(bytes: &mut Vec<u8>, version: Version, properties: &[(&str, &str)]) {
    if version == Version::V311 {
        return;
    }
    let mut encoded = Vec::new();
    for (name, value) in properties {
        encoded.push(0x26);
        push_text(&mut encoded, name);
        push_text(&mut encoded, value);
    }
    push_length(bytes, encoded.len());
    bytes.extend(encoded);
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    received: Vec<u8>,
    last_packet_id: u16,
}

impl Client {
    /// Connects and is accepted.
    ///
    /// # Errors
    /// If there is nobody, or the server refuses.
    pub fn open(address: SocketAddr, version: Version, client_id: &str) -> Result<Self> {
        let connect = Connect { version, client_id, will_topic: None };
        let mut client = Self::open_raw(address, version)?;
        client.send(&connect_packet(&connect))?;
        match client.receive(PATIENCE)? {
            Some(Packet::Connack { reason: 0 }) => Ok(client),
            other => bail!("expected a CONNACK, received {other:?}"),
        }
    }

    /// Connects without saying anything.
    ///
    /// # Errors
    /// If there is nobody.
    pub fn open_raw(address: SocketAddr, version: Version) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, version, received: Vec::new(), last_packet_id: 0 })
    }

    /// This end's address, by which the server's log names the connection.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Publishes by QoS 1 and waits for the PUBACK; returns how long that took.
    ///
    /// # Errors
    /// If it is not acknowledged.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<Duration> {
        let began = Instant::now();
        let packet_id = self.publish_only(topic, payload)?;
        match self.receive(PATIENCE)? {
            Some(Packet::Puback { packet_id: acknowledged, reason: 0 | 0x10 }) => {
                ensure!(acknowledged == packet_id, "another packet is acknowledged");
                Ok(began.elapsed())
            }
            other => bail!("expected a PUBACK, received {other:?}"),
        }
    }

    /// Publishes by QoS 1, waiting for nothing; returns the packet identifier.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn publish_only(&mut self, topic: &str, payload: &[u8]) -> Result<u16> {
        self.last_packet_id = self.last_packet_id % u16::MAX + 1;
        let publish =
            Publish { topic, payload, qos: 1, packet_id: self.last_packet_id, properties: &[] };
        self.send(&publish_packet(self.version, &publish))?;
        Ok(self.last_packet_id)
    }

    /// The next packet; `None` if the server has closed the connection.
    ///
    /// # Errors
    /// If none comes within `patience`.
    pub fn receive(&mut self, patience: Duration) -> Result<Option<Packet>> {
        match self.poll(patience)? {
            Received::Packet(packet) => Ok(Some(packet)),
            Received::Closed => Ok(None),
            Received::Nothing => bail!("nothing received within {} ms", patience.as_millis()),
        }
    }

    /// What comes within `patience`.
    pub(crate) fn poll(&mut self, patience: Duration) -> Result<Received> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(packet) = self.take_packet()? {
                return Ok(Received::Packet(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Received::Nothing);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; READ_BYTES];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Received::Closed),
                Ok(len) => self.received.extend(&chunk[..len]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        return Ok(Received::Closed);
                    }
                    _ => return Err(error).context("cannot read from the server"),
                },
            }
        }
    }

    fn take_packet(&mut self) -> Result<Option<Packet>> {
        let Some((body_at, len)) = frame(&self.received)? else {
            return Ok(None);
        };
        if self.received.len() < body_at + len {
            return Ok(None);
        }
        let packet = decode(self.received[0], &self.received[body_at..body_at + len])?;
        self.received.drain(..body_at + len);
        Ok(Some(packet))
    }
}

/// What came from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Closed,
    Nothing,
    Packet(Packet),
}

/// Where the body begins and how long it is, once its length is there.
fn frame(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut len = 0;
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((place + 2, len)));
        }
    }
    ensure!(bytes.len() < 5, "a packet's length has more than four bytes");
    Ok(None)
}

fn decode(first: u8, body: &[u8]) -> Result<Packet> {
    let byte = |at: usize| body.get(at).copied();
    let short = || format!("packet {first:#04x} is too short: {body:?}");
    Ok(match first {
        0x20 => Packet::Connack { reason: byte(1).with_context(short)? },
        0x40 => {
            let packet_id = [byte(0).with_context(short)?, byte(1).with_context(short)?];
            Packet::Puback {
                packet_id: u16::from_be_bytes(packet_id),
                reason: byte(2).unwrap_or(0),
            }
        }
        0xe0 => Packet::Disconnect { reason: byte(0).unwrap_or(0) },
        other => Packet::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_the_standard_draws_them() {
        let connect = Connect { version: Version::V5, client_id: "a", will_topic: None };
        let expected = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";
        assert_eq!(connect_packet(&connect), expected);
        let publish = Publish {
            topic: "t",
            payload: b"xyz",
            qos: 1,
            packet_id: 7,
            properties: &[("k", "v")],
        };
        assert_eq!(publish_packet(Version::V311, &publish), b"\x32\x08\x00\x01t\x00\x07xyz");
        assert_eq!(
            publish_packet(Version::V5, &publish),
            b"\x32\x10\x00\x01t\x00\x07\x07\x26\x00\x01k\x00\x01vxyz"
        );
        let long = Publish { payload: &[0; 200], qos: 0, ..publish };
        assert_eq!(publish_packet(Version::V311, &long)[..6], *b"\x30\xcb\x01\x00\x01t");
    }

    #[test]
    fn frames_are_found_once_their_length_is_there() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"\x40", None),
            (b"\x40\x02", Some((2, 2))),
            (b"\x40\x80", None),
            (b"\x40\x80\x01", Some((3, 128))),
        ] {
            assert_eq!(frame(bytes).unwrap(), expected, "{bytes:?}");
        }
        assert!(frame(b"\x40\xff\xff\xff\xff").is_err());
    }
}
