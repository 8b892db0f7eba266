use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::{ListenerSpec, ShutdownTrigger, bind_tcp, install_metrics};

struct Part {
    name: &'static str,
    live: AtomicBool,
    ready: AtomicBool,
}

impl Part {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, live: AtomicBool::new(true), ready: AtomicBool::new(true) })
    }
}

impl Probe for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    fn live(&self) -> Result<(), String> {
        let live = self.live.load(Ordering::Relaxed);
        live.then_some(()).ok_or_else(|| "engine gone".to_owned())
    }

    fn ready(&self) -> Result<(), String> {
        let ready = self.ready.load(Ordering::Relaxed);
        ready.then_some(()).ok_or_else(|| "no progress".to_owned())
    }
}

struct Server {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
    gateway: Arc<Part>,
    broker: Arc<Part>,
}

fn start() -> Server {
    let listener =
        bind_tcp(&ListenerSpec { flag: "--http-listen", address: "127.0.0.1:0".parse().unwrap() })
            .unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = Shutdown::new();
    let (gateway, broker) = (Part::new("gateway"), Part::new("broker"));
    let probes: Vec<Arc<dyn Probe>> = vec![gateway.clone(), broker.clone()];
    let task = tokio::spawn(serve(listener, probes, install_metrics(), shutdown));
    Server { address, trigger, task, gateway, broker }
}

/// Sends `request` as it is and returns everything until the server closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read all of an oversized request.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn check(address: SocketAddr, method: &str, path: &str, status: u16, body: Option<&str>) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    let answer = exchange(address, request.as_bytes()).await;
    let line = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&line), "{method} {path}: {answer}");
    if let Some(body) = body {
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn probes_name_each_failing_part() {
    let server = start();
    let at = server.address;
    check(at, "GET", "/healthz", 200, Some("ok\n")).await;
    check(at, "GET", "/readyz", 200, Some("ok\n")).await;
    server.broker.ready.store(false, Ordering::Relaxed);
    check(at, "GET", "/healthz", 200, Some("ok\n")).await;
    check(at, "GET", "/readyz", 503, Some("broker: no progress\n")).await;
    server.gateway.ready.store(false, Ordering::Relaxed);
    server.broker.live.store(false, Ordering::Relaxed);
    check(at, "GET", "/healthz", 503, Some("broker: engine gone\n")).await;
    let both = "gateway: no progress\nbroker: no progress\n";
    check(at, "GET", "/readyz", 503, Some(both)).await;
}

#[tokio::test]
async fn metrics_are_served_and_nothing_else_is() {
    let server = start();
    metrics::counter!("culvert_process_http_test_total").increment(1);
    let answer = exchange(server.address, b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(answer.contains("text/plain; version=0.0.4"), "content type in {answer}");
    assert!(answer.contains("culvert_process_http_test_total 1"));
    check(server.address, "GET", "/", 404, None).await;
    check(server.address, "GET", "/metrics/../etc", 404, None).await;
    check(server.address, "POST", "/healthz", 405, None).await;
    check(server.address, "DELETE", "/metrics", 405, None).await;
}

#[tokio::test]
async fn an_oversized_head_is_refused_and_the_next_request_served() {
    let server = start();
    let long =
        format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(2 * REQUEST_HEAD_BYTES_MAX));
    let answer = exchange(server.address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = exchange(server.address, b"\x16\x03\x01 not http at all\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    check(server.address, "GET", "/healthz", 200, Some("ok\n")).await;
}

#[tokio::test(start_paused = true)]
async fn silent_peers_lose_their_slot() {
    let server = start();
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    check(server.address, "GET", "/healthz", 200, Some("ok\n")).await;
}

#[tokio::test]
async fn the_server_ends_when_asked() {
    let server = start();
    check(server.address, "GET", "/healthz", 200, None).await;
    server.trigger.stop();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
