//! A bad line: a TCP proxy between a device and its gateway that cuts connections at chosen bytes.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

/// How often a connection looks whether the proxy is gone.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A side that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

const CHUNK_LEN: usize = 4_096;

/// How a connection ends, towards both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In order, with a FIN, though in the middle of whatever was being sent.
    Fin,
    /// With a RST: what was under way is lost.
    Reset,
}

/// A proxy; gone when dropped, with its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    line: Arc<Line>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Line {
    target: SocketAddr,
    // A lock, for connections are threads: held for a moment, never while bytes move.
    planned: Mutex<VecDeque<(u64, Cut)>>,
    cuts: AtomicU32,
    is_gone: AtomicBool,
}

impl Proxy {
    /// Listens on the machine's loopback address, where an emulated board finds its host, and connects to `target`. The
    /// connection in being is cut when so many bytes as the first of `planned` says have passed it, both ways together;
    /// the next one goes by the next.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(
        target: SocketAddr,
        planned: impl IntoIterator<Item = (u64, Cut)>,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line {
            target,
            planned: Mutex::new(planned.into_iter().collect()),
            cuts: AtomicU32::new(0),
            is_gone: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let line = Arc::clone(&line);
            move || line.accept(&listener)
        });
        Ok(Self { address, line, acceptor: Some(acceptor) })
    }

    /// How many connections it has cut.
    #[must_use]
    pub fn cuts(&self) -> u32 {
        self.line.cuts.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.is_gone.store(true, Ordering::Release);
        // Wakes the acceptor; if that fails, it has ended by itself.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Line {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut connections = Vec::new();
        while let Ok((device, _)) = listener.accept() {
            if self.is_gone.load(Ordering::Acquire) {
                break;
            }
            let line = Arc::clone(&self);
            connections.push(std::thread::spawn(move || line.carry(device)));
        }
        for connection in connections {
            let _ = connection.join();
        }
    }

    /// Carries bytes both ways until a side ends or the time for a cut has come.
    fn carry(&self, device: TcpStream) {
        let Ok(gateway) = TcpStream::connect(self.target) else {
            hang_up(&device, Cut::Reset);
            return;
        };
        let ends = [device, gateway];
        let cut = self.exchange(&ends).unwrap_or(Cut::Reset);
        for end in &ends {
            hang_up(end, cut);
        }
    }

    fn exchange(&self, ends: &[TcpStream; 2]) -> std::io::Result<Cut> {
        for end in ends {
            end.set_nodelay(true)?;
            end.set_write_timeout(Some(WRITE_TIMEOUT))?;
        }
        let mut passed = 0;
        while !self.is_gone.load(Ordering::Acquire) {
            let mut polled =
                [PollFd::new(&ends[0], PollFlags::IN), PollFd::new(&ends[1], PollFlags::IN)];
            poll(&mut polled, Some(&POLL_INTERVAL))?;
            let is_ready = polled.map(|end| !end.revents().is_empty());
            for from in [0, 1] {
                if !is_ready[from] {
                    continue;
                }
                let mut chunk = [0; CHUNK_LEN];
                let len = (&ends[from]).read(&mut chunk)?;
                if len == 0 {
                    return Ok(Cut::Fin);
                }
                let (allowed, cut) = self.due(passed, len);
                (&ends[1 - from]).write_all(&chunk[..allowed])?;
                passed += allowed as u64;
                if let Some(cut) = cut {
                    return Ok(cut);
                }
            }
        }
        Ok(Cut::Reset)
    }

    /// How many of `len` bytes may still pass, and how the connection ends then, if it does.
    fn due(&self, passed: u64, len: usize) -> (usize, Option<Cut>) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match planned.front().copied() {
            Some((bytes, cut)) if bytes <= passed + len as u64 => {
                planned.pop_front();
                self.cuts.fetch_add(1, Ordering::AcqRel);
                (usize::try_from(bytes.saturating_sub(passed)).unwrap_or(len), Some(cut))
            }
            Some(_) | None => (len, None),
        }
    }
}

/// Lets the end of `end` be this one. Only its closing can fail to be noticed, and it is closed either way.
fn hang_up(end: &TcpStream, cut: Cut) {
    match cut {
        Cut::Fin => {
            let _ = end.shutdown(Shutdown::Write);
        }
        // Without time to linger, closing discards what is unsent and resets.
        Cut::Reset => {
            let _ = set_socket_linger(end, Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{PATIENCE, until};

    /// What comes back through a proxy from a peer that answers every byte, and how it ends.
    fn echo_through(planned: &[(u64, Cut)], sent: usize) -> (usize, std::io::Result<()>) {
        let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = peer.local_addr().unwrap();
        let proxy = Proxy::start(target, planned.iter().copied()).unwrap();
        let echo = std::thread::spawn(move || {
            let (mut end, _) = peer.accept().unwrap();
            let mut byte = [0];
            while let Ok(1) = end.read(&mut byte) {
                if end.write_all(&byte).is_err() {
                    break;
                }
            }
        });
        let mut device = TcpStream::connect(proxy.address).unwrap();
        device.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = 0;
        let mut outcome = Ok(());
        for _ in 0..sent {
            let mut byte = [7];
            match device.write_all(&byte).and_then(|()| device.read(&mut byte)) {
                Ok(0) => break,
                Ok(_) => received += 1,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if !planned.is_empty() {
            until("the cut", PATIENCE, || Ok((proxy.cuts() == 1).then_some(()))).unwrap();
        }
        drop(device);
        echo.join().unwrap();
        (received, outcome)
    }

    #[test]
    fn bytes_pass_until_the_planned_one() {
        let (received, outcome) = echo_through(&[], 100);
        assert_eq!((received, outcome.is_ok()), (100, true));
        let (received, outcome) = echo_through(&[(41, Cut::Fin)], 100);
        assert_eq!((received, outcome.is_ok()), (20, true));
        let (received, outcome) = echo_through(&[(40, Cut::Reset)], 100);
        let kind = outcome.unwrap_err().kind();
        assert!(received <= 20, "{received}");
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_peer_that_is_away_is_seen_as_a_lost_connection() {
        let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = peer.local_addr().unwrap();
        drop(peer);
        let proxy = Proxy::start(target, []).unwrap();
        let mut device = TcpStream::connect(proxy.address).unwrap();
        device.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(device.read(&mut [0]), Ok(0) | Err(_)));
        assert_eq!(proxy.cuts(), 0);
    }
}
