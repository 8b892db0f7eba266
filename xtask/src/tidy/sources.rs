//! Every file of the workspace, whether or not git knows it yet.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that hold no sources.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target", "culvert-data"];

/// A file of the workspace.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace root, with `/` between its parts.
    pub path: String,
    /// The content; empty if it is not UTF-8.
    pub text: String,
}

impl Source {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether this is Rust that people write.
    pub fn is_written_rust(&self) -> bool {
        self.path.ends_with(".rs") && !self.path.contains("/generated/")
    }

    /// The part of a Rust file before its own test module, or nothing for a file that holds only tests.
    pub fn text_without_tests(&self) -> &str {
        let only_tests = self.name() == "tests.rs"
            || self.path.contains("/tests/")
            || self.path.starts_with("tests/");
        if only_tests {
            return "";
        }
        let end = self.text.find("\n#[cfg(test)]").unwrap_or(self.text.len());
        &self.text[..end]
    }
}

/// Reads every file under `root`, sorted by path.
pub fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    read_folder(root, "", &mut sources)?;
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

fn read_folder(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                read_folder(&entry.path(), &format!("{path}/"), sources)?;
            }
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).with_context(|| path.clone())?;
            let text = String::from_utf8(bytes).unwrap_or_default();
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
pub fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_build_output_is_not() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/b.rs", "target/x.rs", "a/target/y.rs", "c.toml"] {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, path).unwrap();
        }
        fs::write(root.path().join("z.bin"), [0xFF, 0xFE]).unwrap();
        let sources = read(root.path()).unwrap();
        let found: Vec<_> =
            sources.iter().map(|source| (source.path.as_str(), source.text.as_str())).collect();
        assert_eq!(found, [("a/b.rs", "a/b.rs"), ("c.toml", "c.toml"), ("z.bin", "")]);
    }

    #[test]
    fn tests_are_told_from_what_ships() {
        let text = "code\n#[cfg(test)]\nmod tests {}";
        assert_eq!(source("a/src/b.rs", text).text_without_tests(), "code");
        for path in ["a/src/b/tests.rs", "a/tests/it.rs", "tests/e2e/src/lib.rs"] {
            assert_eq!(source(path, text).text_without_tests(), "", "{path}");
        }
    }
}
