//! Our broker as a process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::certificate::Certificate;
use crate::process::Server;

/// Away from the default ports: a broker that happens to run here is not to be measured.
const KAFKA_PORT: u16 = 19_092;
const QUIC_PORT: u16 = 19_433;
const HTTP_PORT: u16 = 19_080;

/// How long it may take to say something of itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where its Kafka clients connect.
pub fn kafka_address() -> SocketAddr {
    local(KAFKA_PORT)
}

/// What it says of itself now.
pub fn metrics() -> Result<String> {
    let mut connection = TcpStream::connect_timeout(&local(HTTP_PORT), PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    Ok(response)
}

/// Starts `program` on `data`, which is made if it does not exist; its certificate and its log are kept in `folder`.
pub fn start(program: &Path, folder: &Path, data: &Path) -> Result<Server> {
    let certificate = Certificate::new(folder)?;
    let mut command = Command::new(program);
    command
        .env("CULVERT_LOG", "warn")
        .arg("--data-dir")
        .arg(data)
        .args(["--kafka-listen", &local(KAFKA_PORT).to_string()])
        .args(["--quic-listen", &local(QUIC_PORT).to_string()])
        .args(["--http-listen", &local(HTTP_PORT).to_string()])
        .arg("--tls-cert")
        .arg(&certificate.certificate)
        .arg("--tls-key")
        .arg(&certificate.key)
        .arg("--tls-client-ca")
        .arg(&certificate.certificate);
    Server::start(command, &folder.join("culvert.log"))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
