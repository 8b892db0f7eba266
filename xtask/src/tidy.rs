//! `cargo xtask tidy`: the rules of the house that no compiler knows, each a function from sources to findings.

mod documented;
mod files;
mod layers;
mod manifests;
mod sources;

use anyhow::{Result, bail};

use crate::command::workspace_root;

/// What the checks found. A finding fails the task, a remark does not.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<String>,
    remarks: Vec<String>,
}

impl Report {
    fn finding(&mut self, finding: impl Into<String>) {
        self.findings.push(finding.into());
    }

    fn remark(&mut self, remark: impl Into<String>) {
        self.remarks.push(remark.into());
    }
}

/// Checks everything and prints every finding before it fails.
pub fn run() -> Result<()> {
    let root = workspace_root();
    let sources = sources::read(&root)?;
    let packages = layers::packages()?;
    let mut report = Report::default();
    files::check(&sources, &mut report);
    manifests::check(&sources, &packages, &mut report)?;
    layers::check_directions(&packages, &mut report);
    for package in packages.iter().filter(|package| package.is_core()) {
        let tree = layers::dependency_tree(&package.name)?;
        layers::check_core(&package.name, &tree, &mut report);
        layers::check_lints(&root, package, &mut report);
    }
    documented::check(&sources, &mut report);

    for remark in &report.remarks {
        eprintln!("tidy: remark: {remark}");
    }
    for finding in &report.findings {
        eprintln!("tidy: {finding}");
    }
    if !report.findings.is_empty() {
        bail!("tidy: {} findings", report.findings.len());
    }
    Ok(())
}
