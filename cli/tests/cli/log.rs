//! `culvert log dump` as its user meets it: flags, output and exit codes. What it finds is tested beside the code, and on a
//! broker's own files in tests/e2e.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const UNIT: &[u8] = include_bytes!("../../../cloud-broker/core/log/tests/golden/unit-v1.bin");

fn dump(path: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.args(["log", "dump"]).arg(path).args(flags).output().unwrap()
}

#[test]
fn its_exit_code_tells_intact_from_damaged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("0000000000000009.unit");
    for (flipped, code, line) in
        [(0, 0, "verified files=1 damaged_ranges=0"), (1, 1, "verified files=1 damaged_ranges=1")]
    {
        let mut bytes = UNIT.to_vec();
        bytes[30] ^= flipped;
        fs::write(&path, bytes).unwrap();
        let output = dump(&path, &["--verify"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), text.lines().last()), (Some(code), Some(line)), "{text}");
    }
    let output = dump(&path, &["--json", "--topic-no", "5", "--partition", "3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let types: Vec<_> = text.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(types, ["unit", "run", "unit_end"], "{text}");
}

#[test]
fn it_ends_with_2_if_it_cannot_look() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("note.txt");
    fs::write(&path, "no log").unwrap();
    let missing = folder.path().join("missing");
    let cases: [(&PathBuf, &[&str], &str); 5] = [
        (&missing, &[], "missing"),
        (&path, &[], "is not a WAL file, a unit or a checkpoint"),
        (&folder.path().to_owned(), &[], "it holds no file of a log"),
        (&path, &["--verify", "--records"], "cannot be used with"),
        (&path, &["--partition", "1"], "--topic-no"),
    ];
    for (path, flags, words) in cases {
        let output = dump(path, flags);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{path:?} {flags:?}: {error}");
        assert!(error.contains(words) && output.stdout.is_empty(), "{error}");
    }
}
