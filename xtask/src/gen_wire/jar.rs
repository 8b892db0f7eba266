//! Where the message definitions come from: one jar of Kafka's, named by version and digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

const ARTIFACT: &str = "org.apache.kafka:kafka-clients:4.1.0";
const FILE: &str = "kafka-clients-4.1.0.jar";
const SHA256: &str = "eb74709dc3be35e06208827860c87a94872e8a4b00f466880670785c85a20627";
const FOLDER_IN_JAR: &str = "common/message";

/// Message name to the text of its definition. Fetches the jar into `work` if it is not there yet.
///
/// # Errors
/// If Maven or `jar` fails, or the jar is not the pinned one.
pub fn definitions(work: &Path) -> Result<BTreeMap<String, String>> {
    fs::create_dir_all(work)?;
    let jar = work.join(FILE);
    if !jar.exists() {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy"]);
        maven.arg(format!("-Dartifact={ARTIFACT}"));
        maven.arg(format!("-DoutputDirectory={}", work.display()));
        succeed(&mut maven)?;
    }
    let found = digest(&fs::read(&jar).with_context(|| format!("{}", jar.display()))?);
    ensure!(found == SHA256, "{} has SHA-256 {found}, not the pinned one", jar.display());

    let mut extract = Command::new("jar");
    extract.arg("xf").arg(&jar).arg(FOLDER_IN_JAR);
    succeed(extract.current_dir(work))?;
    let mut definitions = BTreeMap::new();
    for entry in fs::read_dir(work.join(FOLDER_IN_JAR))? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        definitions.insert(name.to_owned(), fs::read_to_string(&path)?);
    }
    Ok(definitions)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
