use super::*;

fn package(name: &str, folder: &str, ours: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        folder: folder.to_owned(),
        ours: ours.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn arrows_point_inward_only() {
    for (name, ours, finding) in [
        ("cli", &["edge-gateway", "cloud-broker", "process"][..], None),
        ("broker-core", &["broker-log", "broker-kafka", "wire"], None),
        ("broker-log", &["wire"], None),
        ("cloud-broker", &["broker-core", "process"], None),
        ("broker-log", &["broker-kafka"], Some("broker-log must not depend on broker-kafka")),
        ("broker-core", &["cloud-broker"], Some("broker-core must not depend on cloud-broker")),
        ("edge-gateway", &["broker-kafka"], Some("edge-gateway must not depend on broker-kafka")),
        ("wire", &["process"], Some("wire must not depend on process")),
        ("newcomer", &[], Some("newcomer: not in the table of dependency directions")),
    ] {
        let mut report = Report::default();
        check_directions(&[package(name, "x", ours)], &mut report);
        assert_eq!(report.findings.first().map(String::as_str), finding, "{name} {ours:?}");
    }
}

#[test]
fn a_core_brings_no_operating_system() {
    let mut report = Report::default();
    let clean = "broker-log v0.1.0 (/x)\nbytes v1.12.1\ntokio-free v1.0.0\n";
    check_core("broker-log", clean, &mut report);
    assert_eq!(report.findings, [""; 0]);
    let tree = "a v1\ntokio v1.54.0\nmio v1.0.0\ntokio v1.54.0 (*)\n";
    check_core("broker-log", tree, &mut report);
    assert_eq!(
        report.findings,
        ["broker-log: a core must not bring in mio", "broker-log: a core must not bring in tokio"]
    );
}

#[test]
fn cores_are_known_by_their_folder() {
    for (folder, core) in [
        ("wire", true),
        ("device-sdk", true),
        ("edge-gateway/core", true),
        ("cloud-broker/core/log", true),
        ("edge-gateway", false),
        ("tests/wired", false),
    ] {
        assert_eq!(package("x", folder, &[]).is_core(), core, "{folder}");
    }
}

#[test]
fn the_nearest_lints_of_a_core_are_the_strict_ones() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let strict = root.join(CORE_LINTS);
    std::fs::create_dir_all(strict.parent().unwrap()).unwrap();
    std::fs::create_dir_all(root.join("a/core/log")).unwrap();
    std::fs::write(&strict, "strict").unwrap();
    std::fs::write(root.join("clippy.toml"), "lax").unwrap();
    let core = package("a-log", "a/core/log", &[]);

    let mut report = Report::default();
    check_lints(root, &core, &mut report);
    assert_eq!(report.findings.len(), 1, "the lax file is the nearest");

    std::os::unix::fs::symlink(&strict, root.join("a/core/clippy.toml")).unwrap();
    let mut report = Report::default();
    check_lints(root, &core, &mut report);
    assert_eq!(report.findings, [""; 0]);

    std::fs::write(root.join("a/core/log/clippy.toml"), "lax").unwrap();
    check_lints(root, &core, &mut report);
    assert_eq!(report.findings.len(), 1, "a nearer file hides the link");
}

#[test]
fn members_and_their_arrows_are_read_from_cargo() {
    let text = r#"{"packages": [
        {"name": "wire", "manifest_path": "/w/wire/Cargo.toml", "dependencies": [{"name": "serde"}]},
        {"name": "broker-log", "manifest_path": "/w/cloud-broker/core/log/Cargo.toml",
         "dependencies": [{"name": "wire"}, {"name": "bytes"}]}
    ]}"#;
    let packages = parse_metadata(text, Path::new("/w")).unwrap();
    assert_eq!(packages[0].ours, [""; 0]);
    assert_eq!(packages[1].folder, "cloud-broker/core/log");
    assert_eq!(packages[1].ours, ["wire"]);
    assert!(parse_metadata(text, Path::new("/elsewhere")).is_err());
}
