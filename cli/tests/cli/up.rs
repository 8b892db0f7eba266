//! `culvert up` as its user meets it: a process that says where it listens, answers there, and ends when told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use crate::{PATIENCE, pause, wait};

const FLAGS: [&str; 4] = ["--mqtt-listen", "--kafka-listen", "--quic-listen", "--http-listen"];

/// A running `culvert up`; killed if a test leaves it running.
struct Up {
    child: Child,
    /// What the listening lines said, by name.
    addresses: BTreeMap<String, SocketAddr>,
    /// What came after them.
    welcome: String,
}

fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.arg("up").arg("--data-dir").arg(data_dir);
    command
}

fn start(data_dir: &Path) -> Up {
    let mut command = command(data_dir);
    for flag in FLAGS {
        command.args([flag, "127.0.0.1:0"]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut addresses = BTreeMap::new();
    let mut welcome = String::new();
    for line in lines.by_ref().map(Result::unwrap) {
        if let Some(listening) = line.strip_prefix("listening ") {
            let (name, address) = listening.split_once(' ').unwrap();
            addresses.insert(name.to_owned(), address.parse().unwrap());
        } else {
            welcome.push_str(&line);
            welcome.push('\n');
        }
        if line.contains("Ctrl-C") {
            break;
        }
    }
    Up { child, addresses, welcome }
}

impl Up {
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// GETs `path` from the HTTP listener and returns the whole answer.
    fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addresses["http"]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: culvert\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.http("/readyz");
            if answer.starts_with("HTTP/1.1 200 ") {
                return;
            }
            assert!(Instant::now() < deadline, "still not ready: {answer}");
            pause();
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_listens_answers_and_ends_on_either_signal() {
    let data = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let mut up = start(data.path());
        let names: Vec<_> = up.addresses.keys().map(String::as_str).collect();
        assert_eq!(names, ["http", "kafka", "mqtt", "quic"]);
        for name in ["kafka", "mqtt"] {
            TcpStream::connect(up.addresses[name]).unwrap();
        }
        assert!(up.welcome.contains("mosquitto_pub -h 127.0.0.1 -p "));
        up.wait_until_ready();
        assert!(up.http("/healthz").ends_with("\r\n\r\nok\n"));
        assert!(up.http("/metrics").contains("# TYPE culvert_"));
        up.signal(signal);
        assert_eq!(up.wait().code(), Some(0), "after SIG{signal}");
    }
}

#[test]
fn it_starts_again_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut first = start(data.path());
    first.wait_until_ready();
    first.signal("KILL");
    first.wait();
    start(data.path()).wait_until_ready();
}

#[test]
fn a_busy_port_is_named_with_its_flag() {
    for busy in FLAGS {
        let data = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = tcp.local_addr().unwrap();
        let _udp = (busy == "--quic-listen").then(|| std::net::UdpSocket::bind(taken).unwrap());
        let mut command = command(data.path());
        for flag in FLAGS {
            let address = if flag == busy { taken.to_string() } else { "127.0.0.1:0".to_owned() };
            command.args([flag, &address]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(wait(&mut child).code(), Some(1), "{busy}");
        let mut text = String::new();
        child.stderr.unwrap().read_to_string(&mut text).unwrap();
        let expected = format!("{busy}: {taken} is in use by another process");
        assert!(text.contains(&expected), "{busy}: {text}");
    }
}

#[test]
fn strangers_are_kept_out_unless_allowed() {
    for flag in ["--mqtt-listen", "--kafka-listen", "--http-listen"] {
        let data = tempfile::tempdir().unwrap();
        let mut command = command(data.path());
        for other in FLAGS.into_iter().filter(|other| *other != flag) {
            command.args([other, "127.0.0.1:0"]);
        }
        let output = command.args([flag, "0.0.0.0:0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{flag}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&format!("{flag}: refuses to listen on 0.0.0.0:0")), "{text}");
    }
}
