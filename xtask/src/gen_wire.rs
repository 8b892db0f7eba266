//! `cargo xtask gen-wire`: writes the Kafka codec of `broker-kafka` from Kafka's own message definitions.
//!
//! The definitions come out of one pinned jar, the output is committed, and `--check` proves that the two agree.
//! To serve one more API, add its name to [`APIS`] and run this again.

mod emit;
mod jar;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use schema::Message;

/// The APIs whose requests and responses are generated, in order of their keys. The headers always are.
const APIS: &[&str] = &[
    "Produce",
    "Fetch",
    "ListOffsets",
    "Metadata",
    "OffsetCommit",
    "OffsetFetch",
    "FindCoordinator",
    "JoinGroup",
    "Heartbeat",
    "LeaveGroup",
    "SyncGroup",
    "DescribeGroups",
    "ListGroups",
    "ApiVersions",
    "CreateTopics",
    "DeleteTopics",
    "DeleteRecords",
    "InitProducerId",
    "OffsetForLeaderEpoch",
    "DescribeConfigs",
    "AlterConfigs",
    "DescribeLogDirs",
    "CreatePartitions",
    "DeleteGroups",
    "IncrementalAlterConfigs",
    "OffsetDelete",
];

const OUTPUT: &str = "cloud-broker/core/kafka/src/generated";

/// Generates the codec, or with `check` compares what would be generated with what is committed.
///
/// # Errors
/// If the definitions cannot be had, one of them says what the generator does not know, or, with `check`, files differ.
pub fn run(check: bool) -> Result<()> {
    let root = workspace_root()?;
    let work = root.join("target/gen-wire");
    let definitions = jar::definitions(&work)?;
    let files = generate(&definitions, APIS)?;
    // The whole of the release must stay within what the generator knows, or the next API would be a surprise.
    generate(&definitions, &all_apis(&definitions)?)?;

    let committed = root.join(OUTPUT);
    if !check {
        return write_formatted(&files, &committed);
    }
    let fresh = work.join("check");
    write_formatted(&files, &fresh)?;
    let differing = differing_files(&fresh, &committed)?;
    ensure!(
        differing.is_empty(),
        "generated files differ in {OUTPUT}: {}; run `cargo xtask gen-wire`",
        differing.join(", ")
    );
    Ok(())
}

/// File name to unformatted Rust source.
type Sources = BTreeMap<String, String>;

fn generate(definitions: &BTreeMap<String, String>, apis: &[impl AsRef<str>]) -> Result<Sources> {
    let message = |name: String| -> Result<Message> {
        let text = definitions.get(&name).with_context(|| format!("the jar has no {name}.json"))?;
        Message::parse(text).with_context(|| name)
    };
    let mut files = Sources::new();
    let mut pairs = Vec::new();
    for api in apis {
        let api = api.as_ref();
        let request = message(format!("{api}Request"))?;
        let response = message(format!("{api}Response"))?;
        let file = format!("{}.rs", emit::module_name(api));
        files.insert(file, emit::messages(&request, &response)?);
        pairs.push(emit::Api::new(api, &request, &response)?);
    }
    let headers = emit::messages(
        &message("RequestHeader".to_owned())?,
        &message("ResponseHeader".to_owned())?,
    )?;
    files.insert("header.rs".to_owned(), headers);
    for (name, source) in emit::dispatch(&pairs) {
        files.insert(name.to_owned(), source);
    }
    Ok(files)
}

/// Every API of the release that still has a version.
fn all_apis(definitions: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut apis = Vec::new();
    for (name, text) in definitions {
        if let Some(api) = name.strip_suffix("Request")
            && schema::has_versions(text).with_context(|| name.clone())?
        {
            apis.push(api.to_owned());
        }
    }
    Ok(apis)
}

fn workspace_root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask lies in the workspace")?;
    Ok(root.to_owned())
}

/// Replaces what `folder` holds by `files`, as rustfmt wants them.
fn write_formatted(files: &Sources, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text)?;
        paths.push(path);
    }
    let status = Command::new("rustfmt")
        .arg("--edition=2024")
        .arg("--config-path")
        .arg(workspace_root()?)
        .args(&paths)
        .status()
        .context("rustfmt did not start")?;
    if !status.success() {
        bail!("rustfmt refused the generated code");
    }
    Ok(())
}

/// Names of the files that only one of the two folders has, or that differ.
fn differing_files(fresh: &Path, committed: &Path) -> Result<Vec<String>> {
    let fresh = read_folder(fresh)?;
    let committed = read_folder(committed)?;
    let names = fresh.keys().chain(committed.keys());
    let mut differing: Vec<String> =
        names.filter(|name| fresh.get(*name) != committed.get(*name)).cloned().collect();
    differing.sort();
    differing.dedup();
    Ok(differing)
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read(entry.path())?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
