//! `culvert demo`: a short one, with everything in it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use tempfile::TempDir;

use crate::{PATIENCE, pause, wait};

/// A demonstration, and where it writes.
struct Demo {
    child: Child,
    /// Its outputs, and in `tmp` what it takes for the folder of temporary files.
    folder: TempDir,
}

fn start(arguments: &[&str]) -> Demo {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| File::create(folder.path().join(name)).unwrap();
    std::fs::create_dir(folder.path().join("tmp")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_culvert"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder.path().join("tmp"))
        .env_remove("CULVERT_LOG")
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .unwrap();
    Demo { child, folder }
}

impl Demo {
    fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// What it has left behind.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_outage_loses_and_doubles_nothing() {
    let mut demo = start(&["--devices", "5", "--seconds", "6", "--outage", "2", "--json"]);
    let status = demo.wait();
    let (output, complaints) = (demo.output(), demo.complaints());
    assert_eq!(status.code(), Some(0), "{output}{complaints}");
    assert_eq!(output.lines().count(), 1, "{output}");
    let ledger: serde_json::Value = serde_json::from_str(&output).unwrap();
    let ledger = ledger.as_object().unwrap();
    let mut fields: Vec<&str> = ledger.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["acknowledged", "duplicates", "in_log", "missing", "published", "spooled"]);
    let field = |name: &str| ledger[name].as_u64().unwrap();
    // 5 devices, 6 s, 20 readings a second.
    assert_eq!(field("published"), 600);
    assert_eq!(field("acknowledged"), 600);
    assert_eq!(field("in_log"), 600);
    assert_eq!((field("missing"), field("duplicates")), (0, 0));
    // Of 200 readings in the outage, the gateway had at least those of its second half on its disk.
    assert!((100..=600).contains(&field("spooled")), "{output}");
    for said in ["uplink cut: readings now stay on the gateway's disk", "uplink restored", "✔ 5 "]
    {
        assert!(complaints.contains(said), "{said:?} in {complaints}");
    }
    assert!(!complaints.contains('\x1b'), "a file is no terminal: {complaints:?}");
    assert!(demo.kept().is_empty(), "{:?}", demo.kept());
}

#[test]
fn its_folder_is_kept_when_asked_for() {
    let mut demo = start(&["--devices", "1", "--seconds", "1", "--outage", "0", "--keep"]);
    let status = demo.wait();
    let (output, complaints) = (demo.output(), demo.complaints());
    assert_eq!(status.code(), Some(0), "{output}{complaints}");
    let verdict = "✔ 1 device, 20 readings published, 20 in the log, 0 missing, 0 duplicates\n";
    assert!(output.ends_with(verdict), "{output}");
    assert!(!output.contains("uplink cut"), "{output}");
    let kept = demo.kept();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].join("gateway/spool.db").is_file() && kept[0].join("broker").is_dir());
    assert!(complaints.contains(&*kept[0].to_string_lossy()), "{complaints}");
}

#[test]
fn an_interrupted_one_is_no_success() {
    let mut demo = start(&["--devices", "1", "--seconds", "3600"]);
    let deadline = Instant::now() + PATIENCE;
    while !demo.output().contains("20 readings a second") {
        assert!(Instant::now() < deadline, "{}{}", demo.output(), demo.complaints());
        pause();
    }
    let pid = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let status = demo.wait();
    assert_eq!(status.code(), Some(1), "{}", demo.complaints());
    assert!(demo.complaints().contains("interrupted"), "{}", demo.complaints());
    assert!(!demo.output().contains("missing"), "{}", demo.output());
}

#[test]
fn flags_that_cannot_be_are_named() {
    for (arguments, flag) in [
        (&["--devices", "0"][..], "--devices"),
        (&["--devices", "101"], "--devices"),
        (&["--seconds", "0"], "--seconds"),
        (&["--seconds", "5", "--outage", "5"], "--outage"),
        (&["--seed=-1"], "--seed"),
    ] {
        let mut demo = start(arguments);
        assert_eq!(demo.wait().code(), Some(2), "{arguments:?}");
        assert!(demo.complaints().contains(flag), "{}", demo.complaints());
        assert!(demo.kept().is_empty(), "{:?}", demo.kept());
    }
}
