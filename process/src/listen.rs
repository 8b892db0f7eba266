//! Listening sockets whose errors name the flag that has to change.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};

use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel queues before they are accepted: a site whose power returns reconnects all at once.
const ACCEPT_BACKLOG: u32 = 1_024;

/// A listener as the operator configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerSpec {
    /// The flag that sets the address, such as `--mqtt-listen`.
    pub flag: &'static str,
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
}

/// What keeps strangers out of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Peers prove who they are, by certificates or passwords over TLS.
    Authenticated,
    /// Nothing, and the operator said `insecure = true`.
    Insecure,
    /// Nothing.
    None,
}

/// Why a listener cannot be opened. Every kind needs another address, another right, or another setting: retrying alone
/// does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens there.
    #[error("{flag}: {address} is in use by another process; choose another address")]
    Busy {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
    },
    /// The system does not allow it, as for ports below 1,024.
    #[error("{flag}: no right to listen on {address}; choose a port above 1023 or grant the right")]
    Denied {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{flag}: {address} is not an address of this machine")]
    NotLocal {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
    },
    /// Strangers could reach it.
    #[error(
        "{flag}: refuses to listen on {address} without authentication or TLS; \
         choose a loopback address or set `insecure = true`"
    )]
    Unprotected {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else the system says.
    #[error("{flag}: cannot listen on {address}: {source}")]
    System {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Opens a TCP listener. Must be called within a tokio runtime.
///
/// # Errors
/// [`ListenError`] names the flag and what to change.
pub fn bind_tcp(spec: &ListenerSpec) -> Result<TcpListener, ListenError> {
    let listen = || {
        let socket = match spec.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Otherwise a restart fails for a minute while old connections sit in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(spec.address)?;
        socket.listen(ACCEPT_BACKLOG)
    };
    listen().map_err(|error| spec.error(error))
}

/// Opens a non-blocking UDP socket, as quinn wants it.
///
/// # Errors
/// [`ListenError`] names the flag and what to change.
pub fn bind_udp(spec: &ListenerSpec) -> Result<UdpSocket, ListenError> {
    let bind = || {
        let socket = UdpSocket::bind(spec.address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind().map_err(|error| spec.error(error))
}

/// Refuses a listener that strangers could reach. Loopback is always allowed.
///
/// # Errors
/// [`ListenError::Unprotected`] for any other address with [`Protection::None`].
pub fn require_safe(spec: &ListenerSpec, protection: Protection) -> Result<(), ListenError> {
    match protection {
        Protection::Authenticated | Protection::Insecure => Ok(()),
        Protection::None if spec.address.ip().to_canonical().is_loopback() => Ok(()),
        Protection::None => {
            Err(ListenError::Unprotected { flag: spec.flag, address: spec.address })
        }
    }
}

/// Tells whoever started the process where it listens, with one line on standard output: `listening mqtt
/// 127.0.0.1:1883`. The form is stable: scripts and tests read the port from it. A closed output is nobody's loss.
pub fn announce(what: &str, address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "listening {what} {address}");
    let _ = out.flush();
}

impl ListenerSpec {
    fn error(&self, source: std::io::Error) -> ListenError {
        let Self { flag, address } = *self;
        match source.kind() {
            ErrorKind::AddrInUse => ListenError::Busy { flag, address },
            ErrorKind::PermissionDenied => ListenError::Denied { flag, address },
            ErrorKind::AddrNotAvailable => ListenError::NotLocal { flag, address },
            _ => ListenError::System { flag, address, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str) -> ListenerSpec {
        ListenerSpec { flag: "--mqtt-listen", address: address.parse().unwrap() }
    }

    #[tokio::test]
    async fn a_busy_port_is_named_with_its_flag() {
        let first = bind_tcp(&spec("127.0.0.1:0")).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind_tcp(&spec(&taken.to_string())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--mqtt-listen: {taken} is in use by another process; choose another address")
        );
        let first = bind_udp(&spec("127.0.0.1:0")).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind_udp(&spec(&taken.to_string())).unwrap_err();
        assert!(matches!(error, ListenError::Busy { address, .. } if address == taken));
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told_apart() {
        let error = bind_tcp(&spec("192.0.2.1:0")).unwrap_err();
        assert!(matches!(error, ListenError::NotLocal { .. }), "{error}");
    }

    #[test]
    fn only_loopback_goes_unprotected() {
        for (address, protection, allowed) in [
            ("127.0.0.1:1883", Protection::None, true),
            ("127.9.9.9:1883", Protection::None, true),
            ("[::1]:1883", Protection::None, true),
            ("[::ffff:127.0.0.1]:1883", Protection::None, true),
            ("0.0.0.0:1883", Protection::None, false),
            ("[::]:1883", Protection::None, false),
            ("192.0.2.1:1883", Protection::None, false),
            ("0.0.0.0:1883", Protection::Insecure, true),
            ("0.0.0.0:1883", Protection::Authenticated, true),
        ] {
            let outcome = require_safe(&spec(address), protection);
            assert_eq!(outcome.is_ok(), allowed, "{address} {protection:?}");
        }
        let refusal = require_safe(&spec("0.0.0.0:1883"), Protection::None).unwrap_err();
        let text = refusal.to_string();
        assert!(text.starts_with("--mqtt-listen: refuses to listen on 0.0.0.0:1883"));
        assert!(text.contains("insecure = true"));
    }
}
