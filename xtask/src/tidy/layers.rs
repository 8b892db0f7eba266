//! The one rule and the dependency directions (`ARCHITECTURE.md`): a core sees no operating system and no shell, and no
//! arrow points outward or sideways.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Report;
use crate::command::{cargo, output, workspace_root};

/// What each package may depend on among ours, in any kind of dependency. A trailing `*` stands for any ending.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("bench", &["broker-*", "cloud-broker", "process", "wire"]),
    ("broker-core", &["broker-*", "wire"]),
    ("broker-*", &["wire"]),
    (
        "cli",
        &[
            "broker-kafka",
            "broker-log",
            "cloud-broker",
            "device-sdk",
            "edge-gateway",
            "process",
            "wire",
        ],
    ),
    ("cloud-broker", &["broker-*", "process", "wire"]),
    ("device-sdk", &["wire"]),
    ("e2e", &["wire"]),
    ("edge-gateway", &["gateway-core", "process", "wire"]),
    ("gateway-core", &["wire"]),
    ("process", &["wire"]),
    ("sim", &["broker-*", "device-sdk", "gateway-core", "wire"]),
    ("wire", &[]),
    ("xtask", &[]),
];

/// What brings a clock, randomness, sockets, files or threads into a core.
const BANNED_IN_CORES: &[&str] = &[
    "async-std",
    "axum",
    "cloud-broker",
    "edge-gateway",
    "fastrand",
    "getrandom",
    "hyper",
    "hyper-util",
    "mio",
    "object_store",
    "process",
    "quinn",
    "quinn-proto",
    "rand",
    "rayon",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "tokio",
];

/// The lints that hold the one rule inside the cores' own code.
const CORE_LINTS: &str = ".config/deterministic-clippy.toml";

/// A member of the workspace.
#[derive(Debug)]
pub struct Package {
    /// Its name in the manifest.
    pub name: String,
    /// Its folder, relative to the workspace root, with `/` between its parts.
    pub folder: String,
    /// Which of our packages it depends on, in any kind of dependency.
    pub ours: Vec<String>,
}

impl Package {
    /// Whether the one rule holds here.
    pub fn is_core(&self) -> bool {
        self.folder.split('/').any(|part| matches!(part, "core" | "device-sdk" | "wire"))
    }
}

/// The members of the workspace, as cargo sees them.
pub fn packages() -> Result<Vec<Package>> {
    let text = output(cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    parse_metadata(&text, &workspace_root())
}

/// Every package that `package` brings into a build with all its features, one per line, procedural macros left out:
/// they run in the compiler.
pub fn dependency_tree(package: &str) -> Result<String> {
    let arguments = [
        "tree",
        "--package",
        package,
        "--edges",
        "normal,no-proc-macro",
        "--all-features",
        "--target",
        "all",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}",
    ];
    output(cargo(&arguments))
}

/// Checks the arrows among our packages.
pub fn check_directions(packages: &[Package], report: &mut Report) {
    for package in packages {
        let name = &package.name;
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(pattern, _)| matches(pattern, name))
        else {
            report.finding(format!("{name}: not in the table of dependency directions"));
            continue;
        };
        for other in &package.ours {
            // A package may ask itself for a feature that its tests need.
            if other != name && !allowed.iter().any(|pattern| matches(pattern, other)) {
                report.finding(format!("{name} must not depend on {other}"));
            }
        }
    }
}

/// Checks what a core brings along, given its [`dependency_tree`].
pub fn check_core(package: &str, tree: &str, report: &mut Report) {
    let mut banned: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| BANNED_IN_CORES.contains(name))
        .collect();
    banned.sort_unstable();
    banned.dedup();
    for name in banned {
        report.finding(format!("{package}: a core must not bring in {name}"));
    }
}

/// Checks that clippy, which takes the nearest `clippy.toml` upward from a package, takes the strict one for a core.
pub fn check_lints(root: &Path, package: &Package, report: &mut Report) {
    let strict = root.join(CORE_LINTS).canonicalize();
    let nearest = root
        .join(&package.folder)
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .map(|folder| folder.join("clippy.toml"))
        .find(|file| file.exists())
        .and_then(|file| file.canonicalize().ok());
    if nearest.is_none() || nearest != strict.ok() {
        let name = &package.name;
        report.finding(format!("{name}: its clippy.toml must be a link to {CORE_LINTS}"));
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

fn parse_metadata(text: &str, root: &Path) -> Result<Vec<Package>> {
    let metadata: Metadata = serde_json::from_str(text).context("cargo metadata")?;
    let names: Vec<_> = metadata.packages.iter().map(|package| package.name.clone()).collect();
    metadata
        .packages
        .into_iter()
        .map(|package| {
            let folder = Path::new(&package.manifest_path)
                .parent()
                .and_then(|folder| folder.strip_prefix(root).ok())
                .with_context(|| format!("{} lies outside the workspace", package.name))?;
            let ours = package
                .dependencies
                .into_iter()
                .map(|dependency| dependency.name)
                .filter(|name| names.contains(name))
                .collect();
            Ok(Package {
                name: package.name,
                folder: folder.to_string_lossy().replace('\\', "/"),
                ours,
            })
        })
        .collect()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: String,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
}

#[cfg(test)]
mod tests;
