//! Settings: what is refused, in which words, and what wins over what.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Launch, PATIENCE, Site, Stage, Tested, scenario, up};

const REFUSE_WITHIN: Duration = Duration::from_secs(10);

/// Starts a process that must refuse to run, and say `words`.
fn check_refusal(launch: Launch, words: &[&str]) -> Result<()> {
    let mut process = launch.spawn()?;
    let status = process.wait(REFUSE_WITHIN)?;
    let said = process.log();
    ensure!(status.code().is_some_and(|code| code != 0), "it ended with {status}: {said}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in: {said}");
    }
    ensure!(!process.output().contains("listening"), "it listened: {}", process.output());
    Ok(())
}

#[test]
fn a_listener_that_strangers_can_reach_needs_a_word_from_the_operator() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        let anywhere = "0.0.0.0:0";
        for flag in ["--mqtt-listen", "--http-listen"] {
            let launch = site.gateway()?.flag(flag, anywhere);
            check_refusal(launch, &[flag, "0.0.0.0:0", "insecure = true"])?;
        }
        for flag in ["--kafka-listen", "--http-listen"] {
            let launch = site.broker()?.flag(flag, anywhere);
            check_refusal(launch, &[flag, "0.0.0.0:0", "insecure = true"])?;
        }
        for flag in ["--mqtt-listen", "--kafka-listen", "--http-listen"] {
            let launch = up(stage)?.flag(flag, anywhere);
            check_refusal(launch, &[flag, "0.0.0.0:0", "insecure = true"])?;
        }
        Ok(())
    });
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    scenario(&[], |stage| {
        let tcp = std::net::TcpListener::bind(stage.address(0))?;
        let udp = std::net::UdpSocket::bind(stage.address(0))?;
        let (tcp, udp) = (tcp.local_addr()?.to_string(), udp.local_addr()?.to_string());
        for (flag, taken) in
            [("--mqtt-listen", &tcp), ("--kafka-listen", &tcp), ("--http-listen", &tcp)]
        {
            let launch = up(stage)?.flag(flag, taken);
            check_refusal(launch, &[flag, taken, "in use"])?;
        }
        // Held until here.
        let _held = udp;
        Ok(())
    });
}

#[test]
fn a_udp_port_in_use_is_named_with_its_flag() {
    scenario(&[], |stage| {
        let held = std::net::UdpSocket::bind(stage.address(0))?;
        let taken = held.local_addr()?.to_string();
        let launch = up(stage)?.flag("--quic-listen", &taken);
        check_refusal(launch, &["--quic-listen", &taken, "in use"])
    });
}

#[test]
fn processes_without_certificates_refuse_to_start() {
    scenario(&[], |stage| {
        let listen = stage.address(0).to_string();
        let gateway = Launch::new(stage, Tested::Gateway)?
            .flag("--data-dir", stage.path("gateway"))
            .flag("--mqtt-listen", &listen)
            .flag("--http-listen", &listen);
        check_refusal(gateway, &["tls_ca"])?;
        let broker = Launch::new(stage, Tested::Broker)?
            .flag("--data-dir", stage.path("broker"))
            .flag("--kafka-listen", &listen)
            .flag("--quic-listen", &listen)
            .flag("--http-listen", &listen);
        check_refusal(broker, &["tls_cert"])
    });
}

#[test]
fn check_tells_good_settings_from_bad_ones() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        for launch in [site.gateway()?, site.broker()?] {
            let mut process = launch.arg("--check").spawn()?;
            let status = process.wait(REFUSE_WITHIN)?;
            ensure!(status.success(), "{status}: {}", process.log());
            ensure!(!process.output().contains("listening"), "it listened");
        }
        ensure!(!stage.path("gateway").exists(), "--check made a spool");
        ensure!(!stage.path("broker").exists(), "--check made a log");

        let no_file = stage.path("none.pem");
        for launch in [
            site.gateway()?.flag("--tls-key", &no_file),
            site.broker()?.flag("--tls-key", &no_file),
        ] {
            check_refusal(launch.arg("--check"), &["none.pem"])?;
        }
        let file = stage.path("wrong.toml");
        std::fs::write(&file, "insecure = true\nno_such_setting = 1\n")?;
        for launch in [site.gateway()?, site.broker()?] {
            let launch = launch.flag("--config", &file).arg("--check");
            check_refusal(launch, &["wrong.toml", "line 2", "no_such_setting"])?;
        }
        let bad_value = site.gateway()?.flag("--spool-bytes-max", "5");
        check_refusal(bad_value.arg("--check"), &["spool_bytes_max", "5"])
    });
}

#[test]
fn flags_win_over_environment_over_file() {
    scenario(&[], |stage| {
        let site = Site::new(stage)?;
        let authority = &site.authority;
        let own = authority.gateway("other")?;
        let ports = [21_001, 21_002, 21_003].map(|port| stage.address(port).to_string());
        let [in_file, in_environment, in_flag] = &ports;
        let file = stage.path("gateway.toml");
        let text = format!(
            "data_dir = {:?}\nmqtt_listen = {in_file:?}\nhttp_listen = {:?}\n\
             tls_ca = {:?}\ntls_cert = {:?}\ntls_key = {:?}\n",
            stage.path("layers"),
            stage.address(0).to_string(),
            authority.certificate,
            own.certificate,
            own.key
        );
        std::fs::write(&file, text)?;
        let launch = || -> Result<Launch> {
            Ok(Launch::new(stage, Tested::Gateway)?.flag("--config", &file))
        };
        let variable = "CULVERT_GATEWAY_MQTT_LISTEN";
        for (launch, expected) in [
            (launch()?, in_file),
            (launch()?.env(variable, in_environment), in_environment),
            (launch()?.env(variable, in_environment).flag("--mqtt-listen", in_flag), in_flag),
        ] {
            let mut process = launch.start()?;
            let found = process.address("mqtt")?.to_string();
            ensure!(found == *expected, "{found} where {expected} is due");
            process.interrupt()?;
            process.wait(PATIENCE)?;
        }
        check_broker_layers(stage, &site)
    });
}

/// The same for the broker, whose file and environment are read by the same rules.
fn check_broker_layers(stage: &Stage, site: &Site<'_>) -> Result<()> {
    let own = site.authority.broker()?;
    let file = stage.path("broker.toml");
    let any = stage.address(0).to_string();
    let in_environment = stage.address(21_004).to_string();
    let text = format!(
        "data_dir = {:?}\nkafka_listen = \"192.0.2.1:1\"\nquic_listen = {any:?}\nhttp_listen = {any:?}\n\
         tls_cert = {:?}\ntls_key = {:?}\ntls_client_ca = {:?}\n",
        stage.path("broker-layers"),
        own.certificate,
        own.key,
        site.authority.certificate
    );
    std::fs::write(&file, text)?;
    let mut process = Launch::new(stage, Tested::Broker)?
        .env("CULVERT_BROKER_CONFIG", &file)
        .env("CULVERT_BROKER_KAFKA_LISTEN", &in_environment)
        .start()?;
    let found = process.address("kafka")?.to_string();
    ensure!(found == in_environment, "{found}");
    Ok(())
}
