use process::Layer;

use super::*;

fn minimal() -> Config {
    Config {
        data_dir: Some("/data".into()),
        tls_cert: Some("cert.pem".into()),
        tls_key: Some("key.pem".into()),
        tls_client_ca: Some("ca.pem".into()),
        ..Config::default()
    }
}

#[test]
fn what_is_not_set_has_its_default() {
    let (settings, http) = minimal().resolve().unwrap();
    let expected = Settings::new(
        "/data".into(),
        TlsFiles { cert: "cert.pem".into(), key: "key.pem".into(), client_ca: "ca.pem".into() },
    );
    assert_eq!(settings, expected);
    assert_eq!(http.to_string(), "127.0.0.1:8081");
}

#[test]
fn a_wrong_setting_is_named() {
    let config = |change: fn(&mut Config)| {
        let mut config = minimal();
        change(&mut config);
        config
    };
    let cases = [
        (config(|c| c.data_dir = None), "data_dir"),
        (config(|c| c.tls_key = None), "tls_key"),
        (config(|c| c.uplink_topics = Some(vec!["a b".into()])), "uplink_topics"),
        (config(|c| c.uplink_topics = Some(vec![OFFSETS_TOPIC.into()])), "uplink_topics"),
        (config(|c| c.default_partitions = Some(0)), "default_partitions"),
        (config(|c| c.offsets_partitions = Some(0)), "offsets_partitions"),
        (
            config(|c| c.group_initial_rebalance_delay_ms = Some(60_001)),
            "group_initial_rebalance_delay_ms",
        ),
        (config(|c| c.log_retention_ms = Some(-2)), "log_retention_ms"),
        (config(|c| c.log_retention_bytes = Some(-2)), "log_retention_bytes"),
        (config(|c| c.replication_factor_max = Some(0)), "replication_factor_max"),
        (config(|c| c.wal_file_bytes = Some(1)), "wal_file_bytes"),
        (config(|c| c.wal_file_age_ms_max = Some(0)), "wal_file_age_ms_max"),
        (config(|c| c.wal_ready_files = Some(65)), "wal_ready_files"),
        (config(|c| c.sync_timeout_ms = Some(999)), "sync_timeout_ms"),
        (config(|c| c.maintenance_ms = Some(0)), "maintenance_ms"),
        (config(|c| c.own_unit_bytes = Some((64 << 10) - 1)), "own_unit_bytes"),
        (config(|c| c.unit_bytes = Some((64 << 10) - 1)), "unit_bytes"),
        (config(|c| c.compaction_bytes_per_second = Some(1 << 19)), "compaction_bytes_per_second"),
        (config(|c| c.request_memory_bytes = Some(1)), "request_memory_bytes"),
        (config(|c| c.kafka_advertise = Some("broker".into())), "kafka_advertise"),
    ];
    for (config, key) in cases {
        assert_eq!(config.resolve().unwrap_err().key, key);
    }
}

#[test]
fn flags_win_over_the_file() {
    let flags = Config { default_partitions: Some(3), ..Config::default() };
    let file = Config { default_partitions: Some(5), insecure: Some(true), ..minimal() };
    let (settings, _) = flags.over(file).resolve().unwrap();
    assert_eq!((settings.default_partitions, settings.insecure), (3, true));
}

#[test]
fn minus_one_is_no_limit() {
    let of = |ms, bytes| {
        let wanted = Config { log_retention_ms: ms, log_retention_bytes: bytes, ..minimal() };
        let retention = wanted.resolve().unwrap().0.retention;
        (retention.ms, retention.bytes)
    };
    assert_eq!(of(None, None), (Some(604_800_000), None));
    assert_eq!(of(Some(-1), Some(5)), (None, Some(5)));
    assert_eq!(of(Some(0), Some(-1)), (Some(0), None));
}

#[test]
fn advertised_addresses_are_hosts_with_ports() {
    for (text, expected) in [
        ("broker.example:9092", Some(("broker.example", 9092))),
        ("10.0.0.1:19092", Some(("10.0.0.1", 19092))),
        ("[::1]:9092", Some(("::1", 9092))),
        ("::1:9092", None),
        (":9092", None),
        ("broker:0", None),
        ("broker:99999", None),
        ("broker", None),
    ] {
        let parsed = HostPort::parse(text).ok();
        let found = parsed.as_ref().map(|p| (p.host.as_str(), p.port));
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn settings_of_the_storage_arrive() {
    let config = Config {
        wal_file_bytes: Some(1 << 20),
        l0_entries_max: Some(10),
        disk_free_floor_bytes: Some(7),
        ..minimal()
    };
    let storage = config.resolve().unwrap().0.storage;
    let found = (storage.log.wal_file_bytes, storage.log.l0_entries_max);
    assert_eq!(found, (1 << 20, 10));
    assert_eq!(storage.disk_free_floor_bytes, Some(7));
    assert_eq!(storage.wal_ready_files, StorageSettings::default().wal_ready_files);
}

#[test]
fn connections_leave_files_for_the_log() {
    let connections =
        |files| minimal().resolve().unwrap().0.within_files(files).kafka_connections_max;
    assert_eq!(connections(None), 10_000);
    assert_eq!(connections(Some(10_000 + FILES_RESERVED)), 10_000);
    assert_eq!(connections(Some(10_000)), 10_000 - FILES_RESERVED as usize);
    assert_eq!(connections(Some(5)), 1);
}
