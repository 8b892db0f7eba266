//! The network between gateway and broker: a UDP relay that can be cut.
//!
//! While it is cut every datagram is dropped, in both directions, and neither end is told: what a pulled plug looks like.
//! Gateway and broker run on and know nothing of the relay.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// Most peers whose answers find their way back: a gateway takes a new port for each connection, and the old are dead.
const PEERS_MAX: usize = 16;

/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

/// A relay at work; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Line {
    is_cut: AtomicBool,
    dropped: AtomicU64,
}

impl Relay {
    /// Relays between whoever sends to [`Relay::address`] and `target`.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = front.local_addr()?;
        let line = Arc::new(Line::default());
        let task = tokio::spawn(run(front, target, Arc::clone(&line)));
        Ok(Self { address, line, task })
    }

    /// Where to send what is meant for the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing comes through.
    pub fn cut(&self) {
        self.line.is_cut.store(true, Ordering::Relaxed);
    }

    /// From now on everything comes through again.
    pub fn restore(&self) {
        self.line.is_cut.store(false, Ordering::Relaxed);
    }

    /// Whether nothing comes through.
    pub fn is_cut(&self) -> bool {
        self.line.is_cut.load(Ordering::Relaxed)
    }

    /// Datagrams dropped so far.
    pub fn dropped(&self) -> u64 {
        self.line.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Whether a datagram comes through; counts those that do not.
    fn lets_through(&self) -> bool {
        let is_cut = self.is_cut.load(Ordering::Relaxed);
        if is_cut {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        !is_cut
    }
}

/// The peers that have sent something, oldest first, each with a socket of its own towards the target.
struct Peers {
    front: Arc<UdpSocket>,
    target: SocketAddr,
    line: Arc<Line>,
    sockets: BTreeMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)>,
    order: VecDeque<SocketAddr>,
    /// The ways back; they end with this.
    returns: JoinSet<()>,
}

async fn run(front: Arc<UdpSocket>, target: SocketAddr, line: Arc<Line>) {
    let mut peers = Peers {
        front: Arc::clone(&front),
        target,
        line: Arc::clone(&line),
        sockets: BTreeMap::new(),
        order: VecDeque::new(),
        returns: JoinSet::new(),
    };
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A failed receive of UDP is news of an earlier send; the next one waits again.
        let Ok((length, peer)) = front.recv_from(&mut datagram).await else { continue };
        if line.lets_through()
            && let Ok(socket) = peers.socket(peer).await
        {
            // Datagrams may get lost: whoever sent it knows how to send it again.
            let _ = socket.send(&datagram[..length]).await;
        }
    }
}

impl Peers {
    async fn socket(&mut self, peer: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        if let Some((socket, _)) = self.sockets.get(&peer) {
            return Ok(Arc::clone(socket));
        }
        if self.order.len() == PEERS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some((_, way_back)) = self.sockets.remove(&oldest)
        {
            way_back.abort();
        }
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        socket.connect(self.target).await?;
        let way_back =
            carry_back(Arc::clone(&socket), Arc::clone(&self.front), peer, Arc::clone(&self.line));
        let way_back = self.returns.spawn(way_back);
        // Those that were aborted are let go of.
        while self.returns.try_join_next().is_some() {}
        self.sockets.insert(peer, (Arc::clone(&socket), way_back));
        self.order.push_back(peer);
        Ok(socket)
    }
}

async fn carry_back(
    socket: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    peer: SocketAddr,
    line: Arc<Line>,
) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok(length) = socket.recv(&mut datagram).await else { continue };
        if line.lets_through() {
            let _ = front.send_to(&datagram[..length], peer).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Far beyond what a datagram takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn bound() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    async fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
        let mut bytes = [0; 64];
        let receiving = tokio::time::timeout(PATIENCE, socket.recv_from(&mut bytes));
        let (length, from) = receiving.await.unwrap().unwrap();
        (String::from_utf8(bytes[..length].to_vec()).unwrap(), from)
    }

    async fn wait_until_dropped(relay: &Relay, count: u64) {
        let waiting = async {
            while relay.dropped() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_cut_line_drops_both_ways_and_says_nothing() {
        let target = bound().await;
        let relay = Relay::start(target.local_addr().unwrap()).await.unwrap();
        let peer = bound().await;
        peer.send_to(b"one", relay.address()).await.unwrap();
        let (text, back) = receive(&target).await;
        assert_eq!(text, "one");
        target.send_to(b"two", back).await.unwrap();
        assert_eq!(receive(&peer).await, ("two".to_owned(), relay.address()));

        relay.cut();
        peer.send_to(b"three", relay.address()).await.unwrap();
        wait_until_dropped(&relay, 1).await;
        target.send_to(b"four", back).await.unwrap();
        wait_until_dropped(&relay, 2).await;

        relay.restore();
        peer.send_to(b"five", relay.address()).await.unwrap();
        assert_eq!(receive(&target).await, ("five".to_owned(), back));
        target.send_to(b"six", back).await.unwrap();
        assert_eq!(receive(&peer).await.0, "six");
        assert_eq!(relay.dropped(), 2);
    }

    #[tokio::test]
    async fn peers_beyond_the_limit_push_out_the_oldest() {
        let target = bound().await;
        let relay = Relay::start(target.local_addr().unwrap()).await.unwrap();
        let mut peers = Vec::new();
        for number in 0..=PEERS_MAX {
            let peer = bound().await;
            peer.send_to(number.to_string().as_bytes(), relay.address()).await.unwrap();
            let (text, back) = receive(&target).await;
            assert_eq!(text, number.to_string());
            peers.push((peer, back));
        }
        // The first starts over with another way back, the last still has its own.
        peers[0].0.send_to(b"again", relay.address()).await.unwrap();
        assert_ne!(receive(&target).await.1, peers[0].1);
        peers[PEERS_MAX].0.send_to(b"still", relay.address()).await.unwrap();
        assert_eq!(receive(&target).await, ("still".to_owned(), peers[PEERS_MAX].1));
    }
}
