//! Every manifest: versions only in the root, default features off, lints inherited.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::Report;
use super::layers::Package;
use super::sources::Source;

/// Dependencies whose default features are wanted as they are: they are none, or are the reason for the dependency.
const DEFAULT_FEATURES_ALLOWED: &[&str] = &["getrandom", "snap", "tempfile"];

const DEPENDENCY_TABLES: &[&str] = &["build-dependencies", "dependencies", "dev-dependencies"];

/// The boards: a workspace of its own, whose members cargo does not name with ours.
const FIRMWARE: &str = "firmware-examples";

/// Checks both root manifests and those of all members.
pub fn check(sources: &[Source], packages: &[Package], report: &mut Report) -> Result<()> {
    let manifest = |path: &str| -> Result<Table> {
        let source = sources
            .iter()
            .find(|source| source.path == path)
            .with_context(|| format!("{path} is missing"))?;
        source.text.parse().with_context(|| path.to_owned())
    };
    check_root("Cargo.toml", &manifest("Cargo.toml")?, report);
    for package in packages {
        let path = format!("{}/Cargo.toml", package.folder);
        check_member(&path, &manifest(&path)?, report);
    }
    let path = format!("{FIRMWARE}/Cargo.toml");
    let root = manifest(&path)?;
    check_root(&path, &root, report);
    for board in members(&root) {
        let path = format!("{FIRMWARE}/{board}/Cargo.toml");
        check_member(&path, &manifest(&path)?, report);
    }
    Ok(())
}

fn members(root: &Table) -> impl Iterator<Item = &str> {
    let members = root.get("workspace").and_then(|workspace| workspace.get("members"));
    members.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn check_root(path: &str, manifest: &Table, report: &mut Report) {
    let dependencies = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table);
    for (name, entry) in dependencies.into_iter().flatten() {
        let ours = entry.get("path").is_some();
        let lean = entry.get("default-features").and_then(Value::as_bool) == Some(false);
        if !ours && !lean && !DEFAULT_FEATURES_ALLOWED.contains(&name.as_str()) {
            report.finding(format!("{path}: {name} without default-features = false"));
        }
    }
}

fn check_member(path: &str, manifest: &Table, report: &mut Report) {
    if !is_inherited(manifest.get("lints")) {
        report.finding(format!("{path}: [lints] workspace = true is missing"));
    }
    let targets = manifest.get("target").and_then(Value::as_table);
    let places = targets
        .into_iter()
        .flat_map(|targets| targets.values())
        .filter_map(Value::as_table)
        .chain([manifest]);
    for place in places {
        let entries =
            DEPENDENCY_TABLES.iter().filter_map(|table| place.get(*table)?.as_table()).flatten();
        for (name, entry) in entries {
            if !is_inherited(Some(entry)) {
                report.finding(format!("{path}: {name} must take its version from the root"));
            }
        }
    }
}

fn is_inherited(entry: Option<&Value>) -> bool {
    entry.and_then(|entry| entry.get("workspace")).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::sources::source;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn findings(root: &str, member: &str) -> Vec<String> {
        findings_with_board(root, member, "", LINTS)
    }

    fn findings_with_board(root: &str, member: &str, boards: &str, board: &str) -> Vec<String> {
        let boards = format!("[workspace]\nmembers = [\"b\"]\n{boards}");
        let sources = [
            source("Cargo.toml", root),
            source("a/Cargo.toml", member),
            source("firmware-examples/Cargo.toml", &boards),
            source("firmware-examples/b/Cargo.toml", board),
        ];
        let packages = [Package { name: "a".to_owned(), folder: "a".to_owned(), ours: Vec::new() }];
        let mut report = Report::default();
        check(&sources, &packages, &mut report).unwrap();
        report.findings
    }

    #[test]
    fn the_root_turns_default_features_off() {
        for (dependency, count) in [
            ("x = \"1\"", 1),
            ("x = { version = \"1\" }", 1),
            ("x = { version = \"1\", default-features = true }", 1),
            ("x = { version = \"1\", default-features = false }", 0),
            ("x = { path = \"x\" }", 0),
            ("tempfile = \"3\"", 0),
        ] {
            let root = format!("[workspace.dependencies]\n{dependency}\n");
            assert_eq!(findings(&root, LINTS).len(), count, "{dependency}");
        }
    }

    #[test]
    fn members_inherit_lints_and_versions() {
        assert_eq!(findings("", ""), ["a/Cargo.toml: [lints] workspace = true is missing"]);
        for (dependencies, count) in [
            ("[dependencies]\nx.workspace = true\n", 0),
            ("[dependencies]\nx = { workspace = true, features = [\"y\"] }\n", 0),
            ("[dependencies]\nx = \"1\"\n", 1),
            ("[dev-dependencies]\nx = { version = \"1\" }\n", 1),
            ("[build-dependencies]\nx = { path = \"../x\" }\n", 1),
            ("[target.'cfg(unix)'.dependencies]\nx = \"1\"\n", 1),
        ] {
            let member = format!("{LINTS}{dependencies}");
            assert_eq!(findings("", &member).len(), count, "{dependencies}");
        }
    }

    #[test]
    fn boards_keep_to_the_same() {
        let dependency = "[workspace.dependencies]\nx = \"1\"\n";
        assert_eq!(
            findings_with_board("", LINTS, dependency, ""),
            [
                "firmware-examples/Cargo.toml: x without default-features = false",
                "firmware-examples/b/Cargo.toml: [lints] workspace = true is missing",
            ]
        );
    }

    #[test]
    fn a_manifest_that_is_missing_or_broken_is_named() {
        let mut report = Report::default();
        let error = check(&[], &[], &mut report).unwrap_err();
        assert_eq!(error.to_string(), "Cargo.toml is missing");
        let error = check(&[source("Cargo.toml", "=")], &[], &mut report).unwrap_err();
        assert_eq!(error.to_string(), "Cargo.toml");
    }
}
