//! What operators and implementers look up must be in the docs: metrics, settings, and golden files.

use std::collections::BTreeSet;

use super::Report;
use super::sources::Source;

/// The operators' reference.
const OPERATING: &str = "docs/operating.md";

const METRIC_PREFIXES: &[&str] = &["culvert_broker_", "culvert_gateway_"];

const SETTING_PREFIXES: &[&str] = &["CULVERT_BROKER_", "CULVERT_GATEWAY_"];

/// Checks that every name in the code is in the docs.
pub fn check(sources: &[Source], report: &mut Report) {
    let operating = sources
        .iter()
        .find(|source| source.path == OPERATING)
        .map_or("", |source| source.text.as_str());
    for metric in metrics(sources) {
        if !contains_word(operating, &metric) {
            report.finding(format!("{OPERATING}: the metric {metric} is not in it"));
        }
    }
    for key in settings(sources) {
        if !contains_word(operating, &key) {
            report.finding(format!("{OPERATING}: the setting {key} is not in it"));
        }
    }
    check_golden_files(sources, report);
}

fn metrics(sources: &[Source]) -> BTreeSet<String> {
    sources
        .iter()
        .filter(|source| source.is_written_rust() && !source.path.starts_with("xtask/"))
        .flat_map(|source| names(source.text_without_tests(), METRIC_PREFIXES))
        .collect()
}

/// The keys of the two config files, read off the environment variables that their declarations must name.
fn settings(sources: &[Source]) -> BTreeSet<String> {
    sources
        .iter()
        .filter(|source| {
            source.path.ends_with("/src/config.rs") && !source.path.starts_with("process/")
        })
        .flat_map(|source| names(source.text_without_tests(), SETTING_PREFIXES))
        .filter_map(|name| {
            let key = SETTING_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
            Some(key.to_lowercase())
        })
        .collect()
}

/// Every golden file is named in the docs of its format: whoever changes one finds the other.
fn check_golden_files(sources: &[Source], report: &mut Report) {
    let golden = sources.iter().filter(|source| source.path.contains("/golden/"));
    for file in golden {
        let name = file.name();
        let named = sources
            .iter()
            .filter(|source| source.path.starts_with("docs/") && source.path.ends_with(".md"))
            .any(|source| contains_word(&source.text, name));
        if !named {
            let path = &file.path;
            report.finding(format!("{path}: no file in docs/ names it"));
        }
    }
}

/// String literals that start with one of `prefixes` and are names to their end.
fn names<'text>(
    text: &'text str,
    prefixes: &'static [&str],
) -> impl Iterator<Item = String> + use<'text> {
    text.split('"')
        .filter(|literal| {
            prefixes
                .iter()
                .any(|prefix| literal.len() > prefix.len() && literal.starts_with(prefix))
        })
        .filter(|literal| literal.chars().all(is_name_part))
        .map(str::to_owned)
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_name_part) && !after.is_some_and(is_name_part)
    })
}

fn is_name_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::sources::source;

    fn findings(sources: &[Source]) -> Vec<String> {
        let mut report = Report::default();
        check(sources, &mut report);
        report.findings
    }

    #[test]
    fn a_metric_must_be_documented_under_its_whole_name() {
        let code = "counter!(\"culvert_gateway_received_total\");\n\
                    warn!(\"culvert_gateway_ is a prefix\");\n\
                    #[cfg(test)]\nmod tests { \"culvert_gateway_test_total\" }";
        for (docs, count) in [
            ("| `culvert_gateway_received_total` | readings |", 0),
            ("culvert_gateway_received_total_bytes", 1),
            ("nothing", 1),
        ] {
            let found =
                findings(&[source("edge-gateway/src/metrics.rs", code), source(OPERATING, docs)]);
            assert_eq!(found.len(), count, "{docs}: {found:?}");
        }
    }

    #[test]
    fn a_setting_must_be_documented_by_its_key() {
        let code = "data_dir: PathBuf = \"CULVERT_BROKER_DATA_DIR\",";
        for (docs, count) in [("`data_dir`: the folder", 0), ("`data_dirs`", 1)] {
            let found =
                findings(&[source("cloud-broker/src/config.rs", code), source(OPERATING, docs)]);
            assert_eq!(found.len(), count, "{docs}: {found:?}");
        }
        let elsewhere = source("cloud-broker/src/runtime.rs", code);
        assert_eq!(findings(&[elsewhere]), [""; 0]);
    }

    #[test]
    fn golden_files_are_named_in_the_docs() {
        let golden = || source("wire/tests/golden/state-1.bin", "");
        assert_eq!(
            findings(&[golden()]),
            ["wire/tests/golden/state-1.bin: no file in docs/ names it"]
        );
        let docs = source("docs/protocols/uplink.md", "see `state-1.bin`");
        assert_eq!(findings(&[golden(), docs]), [""; 0]);
    }
}
