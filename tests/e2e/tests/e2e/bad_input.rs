//! Bad input on every port: the log says something clear, the process lives, and good clients go on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    Authority, Chance, Client, PATIENCE, Packet, Process, Publish, Site, Stage, Tool, Version, get,
    produce, publish_packet, read_topic, scenario, until, wait_until_delivered,
};

const HALF_OPEN_CONNECTIONS: usize = 200;

/// The gateway's default limit is 1 MiB.
const OVERSIZED_BYTES: usize = 2 << 20;

/// A site at work, and proof that it works.
struct AtWork<'a> {
    site: Site<'a>,
    broker: Process,
    gateway: Process,
    published: usize,
}

impl<'a> AtWork<'a> {
    fn start(stage: &'a Stage) -> Result<Self> {
        let site = Site::new(stage)?;
        let broker = site.broker()?.start()?;
        let gateway = site.gateway()?.start()?;
        Ok(Self { site, broker, gateway, published: 0 })
    }

    /// A good device, a good consumer and a good producer are served.
    fn check_good_clients(&mut self) -> Result<()> {
        self.broker.check_running()?;
        self.gateway.check_running()?;
        let mut client = Client::open(self.site.mqtt(), Version::V5, "good")?;
        client.publish("t", b"1")?;
        self.published += 1;
        wait_until_delivered(&mut self.gateway, PATIENCE)?;
        let records = read_topic(self.site.kafka(), "telemetry")?;
        ensure!(records.len() == self.published, "{records:?}");
        produce(self.site.kafka(), "produced", "1", PATIENCE)?;
        for http in [self.site.gateway_http(), self.site.broker_http()] {
            ensure!(get(http, "/healthz")?.status == 200, "not healthy");
        }
        Ok(())
    }
}

/// Sends `bytes` and waits until the server closes; returns this end's address.
fn send_and_be_closed(address: SocketAddr, bytes: &[u8]) -> Result<SocketAddr> {
    let mut stream = TcpStream::connect(address)?;
    let own = stream.local_addr()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return Ok(own),
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => return Ok(own),
                ErrorKind::Interrupted => {}
                _ => bail!("the server did not close: {error}"),
            },
        }
    }
}

/// Waits for a warning about the peer at `peer`.
fn wait_for_warning(process: &Process, peer: SocketAddr) -> Result<()> {
    let peer = peer.to_string();
    until(&format!("a warning about {peer}"), PATIENCE, || {
        let log = process.log();
        let warned = log.lines().any(|line| line.contains("WARN") && line.contains(&peer));
        Ok(warned.then_some(()))
    })
}

/// A Kafka request without its length: header of version 2 and `body`.
fn kafka_request(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(api_key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    request.extend(4_i16.to_be_bytes());
    request.extend(b"evil");
    // No tagged fields.
    request.push(0);
    request.extend(body);
    let mut framed = (request.len() as i32).to_be_bytes().to_vec();
    framed.extend(request);
    framed
}

#[test]
fn random_bytes_on_every_tcp_port() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        let mut chance = Chance::new(stage.settings.seed);
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let (mqtt, kafka) = (at_work.site.mqtt(), at_work.site.kafka());
        for _ in 0..20 {
            // High bits set: an MQTT packet that is no CONNECT, a Kafka length below 0.
            let mut bytes = chance.bytes(1_000);
            bytes[0] |= 0x80;
            let peer = send_and_be_closed(mqtt, &bytes)?;
            wait_for_warning(&at_work.gateway, peer)?;
            let peer = send_and_be_closed(kafka, &bytes)?;
            wait_for_warning(&at_work.broker, peer)?;
            send_and_be_closed(at_work.site.gateway_http(), &bytes)?;
            send_and_be_closed(at_work.site.broker_http(), &bytes)?;
        }
        at_work.check_good_clients()
    });
}

#[test]
fn random_datagrams_on_the_uplink() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        at_work.check_good_clients()?;
        let mut chance = Chance::new(stage.settings.seed);
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let socket = UdpSocket::bind(stage.address(0))?;
        for round in 0..2_000_usize {
            let mut bytes = chance.bytes(1 + round % 1_400);
            if round % 2 == 0 {
                // The long header of a QUIC version 1 Initial.
                let header = [0xc0 | bytes[0], 0, 0, 0, 1];
                let len = header.len().min(bytes.len());
                bytes[..len].copy_from_slice(&header[..len]);
            }
            socket.send_to(&bytes, at_work.site.quic())?;
        }
        at_work.check_good_clients()
    });
}

#[test]
fn an_oversized_mqtt_packet_is_refused() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        let payload = vec![b'x'; OVERSIZED_BYTES];
        let publish =
            Publish { topic: "t", payload: &payload, qos: 1, packet_id: 1, properties: &[] };
        for (version, expected) in
            [(Version::V5, Some(Packet::Disconnect { reason: 0x95 })), (Version::V311, None)]
        {
            let mut client = Client::open(at_work.site.mqtt(), version, "large")?;
            let peer = client.local_address()?;
            // The header is enough to be refused; the rest would meet a closed connection.
            client.send(&publish_packet(version, &publish)[..64])?;
            let packet = client.receive(PATIENCE)?;
            ensure!(packet == expected, "{version:?}: {packet:?}");
            wait_for_warning(&at_work.gateway, peer)?;
        }
        at_work.check_good_clients()
    });
}

#[test]
fn oversized_and_absurd_kafka_requests() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        let absurd = [0xff, 0xff, 0xff, 0xff, 0x0f];
        let mut cases: Vec<(&str, Vec<u8>)> = vec![
            ("largest length", [&i32::MAX.to_be_bytes()[..], &[0; 16]].concat()),
            ("length below 0", [&(-1_i32).to_be_bytes()[..], &[0; 16]].concat()),
            ("length 0", vec![0; 16]),
            ("unknown API", kafka_request(32_000, 0, &[])),
            ("API that is not served", kafka_request(24, 0, &[])),
        ];
        // ListOffsets has replica and isolation before its array; Fetch six fields.
        for (name, api_key, version, before) in [
            ("Metadata", 3, 12, 0),
            ("Produce", 0, 9, 7),
            ("Fetch", 1, 12, 25),
            ("ListOffsets", 2, 6, 5),
        ] {
            let mut body = vec![0; before];
            body.extend(absurd);
            body.extend([0; 16]);
            cases.push((name, kafka_request(api_key, version, &body)));
            // The same count, and nothing behind it.
            body.truncate(before + absurd.len());
            cases.push((name, kafka_request(api_key, version, &body)));
        }
        for (name, bytes) in cases {
            let peer = send_and_be_closed(at_work.site.kafka(), &bytes).context(name)?;
            wait_for_warning(&at_work.broker, peer).context(name)?;
        }
        at_work.check_good_clients()
    });
}

#[test]
fn half_open_connections_hold_up_nobody() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        let open = |address, bytes: &[u8]| -> Result<Vec<TcpStream>> {
            let one = |_| {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(bytes)?;
                Ok(stream)
            };
            (0..HALF_OPEN_CONNECTIONS).map(one).collect()
        };
        let (mqtt, kafka) = (at_work.site.mqtt(), at_work.site.kafka());
        let _silent = (open(mqtt, b"")?, open(kafka, b"")?);
        // A CONNECT of which most is missing; a Kafka request of 16 MiB of which a few bytes came.
        let _halfway =
            (open(mqtt, b"\x10\x20\x00\x04MQ")?, open(kafka, b"\x01\x00\x00\x00\x00\x03")?);
        at_work.check_good_clients()
    });
}

#[test]
fn http_garbage_is_turned_away() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64 << 10));
        let endless_header =
            format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
        for http in [at_work.site.gateway_http(), at_work.site.broker_http()] {
            for garbage in ["GARBAGE\r\n\r\n", &long_line, &endless_header] {
                let mut stream = TcpStream::connect(http)?;
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                let _ = stream.write_all(garbage.as_bytes());
                let mut answer = Vec::new();
                // A reset is as good as an answer.
                let _ = stream.read_to_end(&mut answer);
                let served = answer.starts_with(b"HTTP/1.1 200");
                ensure!(!served, "garbage was served");
            }
            let _idle: Vec<TcpStream> =
                (0..30).map(|_| TcpStream::connect(http)).collect::<std::io::Result<_>>()?;
            ensure!(get(http, "/healthz")?.status == 200, "idle peers hold it up");
        }
        at_work.check_good_clients()
    });
}

#[test]
fn wrong_certificates_are_refused_on_both_sides() {
    scenario(&[Tool::Kcat], |stage| {
        let mut at_work = AtWork::start(stage)?;
        let right = &at_work.site.authority;
        let wrong = Authority::new(&stage.path("wrong"), "stranger")?;
        let stranger = wrong.gateway("plant-2")?;
        let own = right.gateway("plant-2")?;

        // The gateway does not know the broker's authority.
        let suspicious = at_work.site.other_gateway("suspicious", &wrong, &own)?.start()?;
        suspicious.wait_for_log("UnknownIssuer")?;

        // The broker does not know the gateway's authority.
        let refused = at_work.site.other_gateway("refused", right, &stranger)?.start()?;
        until("a warning at the broker", PATIENCE, || {
            let log = at_work.broker.log();
            let warned = log
                .lines()
                .any(|line| line.contains("WARN") && line.to_lowercase().contains("certificate"));
            Ok(warned.then_some(()))
        })?;
        until("the gateway to say why", PATIENCE, || {
            let log = refused.log();
            let told = log.lines().any(|line| {
                line.contains("WARN")
                    && (line.to_lowercase().contains("certificate") || line.contains("UnknownCA"))
            });
            Ok(told.then_some(()))
        })?;
        ensure!(refused.logged("session open") == 0, "it got in");
        at_work.check_good_clients()
    });
}
