//! What `culvert up` prints once everything listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Where each part listens, with the real ports.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// MQTT 3.1.1 and 5, for devices.
    pub mqtt: SocketAddr,
    /// The Kafka protocol, for consumers.
    pub kafka: SocketAddr,
    /// The uplink, for gateways.
    pub quic: SocketAddr,
    /// Metrics and probes.
    pub http: SocketAddr,
}

/// The first commands to try, for a terminal.
pub fn text(addresses: &Addresses, data_dir: &Path) -> String {
    let (mqtt, kafka, http) =
        (reachable(addresses.mqtt), reachable(addresses.kafka), reachable(addresses.http));
    let (host, port) = (mqtt.ip(), mqtt.port());
    let data = data_dir.display();
    format!(
        "\n\
         Watch readings arrive, with this command or any Kafka client:\n  \
         culvert tail telemetry --from start --bootstrap {kafka}\n  \
         kcat -C -b {kafka} -t telemetry -o beginning -f '%k %s\\n'\n\
         Publish one:\n  \
         mosquitto_pub -h {host} -p {port} -q 1 -t plant/line1/temperature -m 21.5\n\
         See how it is:\n  \
         curl http://{http}/readyz\n\
         \n\
         Data is in {data}. Ctrl-C ends it; a reading that was acknowledged stays.\n"
    )
}

/// Where a client on this machine reaches a listener that may be open to all addresses.
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_addresses_that_clients_reach() {
        let addresses = Addresses {
            mqtt: "0.0.0.0:1884".parse().unwrap(),
            kafka: "[::]:9093".parse().unwrap(),
            quic: "127.0.0.1:4433".parse().unwrap(),
            http: "127.0.0.1:8080".parse().unwrap(),
        };
        let text = text(&addresses, Path::new("./culvert-data"));
        for command in [
            "culvert tail telemetry --from start --bootstrap [::1]:9093\n",
            "kcat -C -b [::1]:9093 -t telemetry ",
            "mosquitto_pub -h 127.0.0.1 -p 1884 -q 1 ",
            "curl http://127.0.0.1:8080/readyz",
            "./culvert-data",
        ] {
            assert!(text.contains(command), "{command} in {text}");
        }
    }
}
