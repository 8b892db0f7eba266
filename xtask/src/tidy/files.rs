//! Sizes, names, tables of contents, and words that must not stay.

use super::Report;
use super::sources::Source;

/// Lines beyond which a file must be explained, and beyond which it must be cut.
const LINES_REMARKED: usize = 600;
const LINES_MAX: usize = 800;

/// Lines a table of contents may have.
const CONTENTS_LINES_MAX: usize = 120;

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Words that promise work instead of doing it. Put together here, so that this file may name them.
const BANNED_WORDS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[ig", "nore")];

/// File types whose words are read.
const WORD_FILES: &[&str] = &[".md", ".rs", ".sh", ".sql", ".toml"];

/// Checks every file by itself.
pub fn check(sources: &[Source], report: &mut Report) {
    for source in sources {
        check_size(source, report);
        check_name(source, report);
        check_contents(source, report);
        check_words(source, report);
    }
}

fn check_size(source: &Source, report: &mut Report) {
    if !source.is_written_rust() {
        return;
    }
    let lines = source.text.lines().count();
    let path = &source.path;
    if lines > LINES_MAX {
        report.finding(format!("{path}: {lines} lines, at most {LINES_MAX} pass"));
    } else if lines > LINES_REMARKED {
        report.remark(format!("{path}: {lines} lines"));
    }
}

fn check_name(source: &Source, report: &mut Report) {
    if !source.path.ends_with(".rs") {
        return;
    }
    let empty =
        source.path.trim_end_matches(".rs").split('/').find(|part| EMPTY_NAMES.contains(part));
    if let Some(name) = empty {
        let path = &source.path;
        report.finding(format!("{path}: \"{name}\" does not say what is in it"));
    }
}

/// `lib.rs` holds docs, modules and re-exports; no logic in `mod.rs` either.
fn check_contents(source: &Source, report: &mut Report) {
    if !source.is_written_rust() || !matches!(source.name(), "lib.rs" | "mod.rs") {
        return;
    }
    let path = &source.path;
    let text = source.text.split("\n#[cfg(test)]").next().unwrap_or("");
    let lines = text.lines().count();
    if lines > CONTENTS_LINES_MAX {
        report.finding(format!(
            "{path}: {lines} lines, a table of contents has at most {CONTENTS_LINES_MAX}"
        ));
    }
    if let Some(number) = text.lines().position(defines_code) {
        let number = number + 1;
        report.finding(format!("{path}:{number}: a table of contents has no code"));
    }
}

fn defines_code(line: &str) -> bool {
    let visible = line
        .strip_prefix("pub")
        .map_or(line, |rest| rest.split_once(' ').map_or(rest, |(_, item)| item));
    let plain = ["const ", "async ", "unsafe "]
        .iter()
        .fold(visible, |item, word| item.strip_prefix(word).unwrap_or(item));
    plain.starts_with("fn ") || plain.starts_with("impl ") || plain.starts_with("impl<")
}

fn check_words(source: &Source, report: &mut Report) {
    if !WORD_FILES.iter().any(|kind| source.path.ends_with(kind)) {
        return;
    }
    let path = &source.path;
    for (index, line) in source.text.lines().enumerate() {
        if let Some(word) = BANNED_WORDS.iter().find(|word| line.contains(**word)) {
            let number = index + 1;
            report.finding(format!("{path}:{number}: {word} must not stay"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::sources::source;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        check(&[source(path, text)], &mut report);
        report.findings
    }

    #[test]
    fn long_files_are_remarked_then_refused() {
        let mut report = Report::default();
        let lines = |count| source("a/src/b.rs", &"x\n".repeat(count));
        check(&[lines(600)], &mut report);
        assert!(report.remarks.is_empty());
        check(&[lines(601), lines(800)], &mut report);
        assert_eq!(report.remarks.len(), 2);
        assert!(report.findings.is_empty());
        check(&[lines(801)], &mut report);
        assert_eq!(report.findings, ["a/src/b.rs: 801 lines, at most 800 pass"]);
        let generated = source("a/src/generated/b.rs", &"x\n".repeat(5_000));
        let mut report = Report::default();
        check(&[generated], &mut report);
        assert!(report.findings.is_empty() && report.remarks.is_empty());
    }

    #[test]
    fn names_must_say_something() {
        for path in ["a/src/utils.rs", "a/src/common/x.rs", "helpers.rs"] {
            assert_eq!(findings(path, "").len(), 1, "{path}");
        }
        for path in ["a/src/utilisation.rs", "docs/common.md", "a/common_log.rs"] {
            assert_eq!(findings(path, ""), [""; 0], "{path}");
        }
    }

    #[test]
    fn tables_of_contents_hold_no_code() {
        for (text, count) in [
            ("//! Docs.\nmod a;\npub use a::b;\npub const X: u8 = 1;", 0),
            ("pub fn logic() {}", 1),
            ("pub(crate) const fn logic() {}", 1),
            ("async fn logic() {}", 1),
            ("impl<T> Trait for T {}", 1),
            ("mod a;\n#[cfg(test)]\nmod tests {\n}\nfn checked() {}", 0),
        ] {
            assert_eq!(findings("a/src/lib.rs", text).len(), count, "{text}");
            assert_eq!(findings("a/src/other.rs", text).len(), 0, "{text}");
        }
        let long = "mod a;\n".repeat(CONTENTS_LINES_MAX + 1);
        assert_eq!(findings("a/src/lib.rs", &long).len(), 1);
    }

    #[test]
    fn promises_of_work_are_found_with_their_line() {
        for word in BANNED_WORDS {
            let text = format!("first\n// {word}: later\n");
            let found = findings("a/src/b.rs", &text);
            assert_eq!(found, [format!("a/src/b.rs:2: {word} must not stay")]);
            assert_eq!(findings("a/b.bin", &text), [""; 0]);
        }
    }
}
