//! `cargo xtask bench`: installs and builds what the figures need, and lets the package `bench` measure.

use anyhow::Result;
use clap::Subcommand;

use crate::command::{cargo, command, run, workspace_root};
use crate::setup;

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// The broker beside Apache Kafka, under the same clients.
    Kafka {
        /// For `bench kafka`; see its `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The log engine beside a raw file; the broker's start and memory.
    Log {
        /// For `bench log`; see its `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Measures it.
pub fn measure(what: &Bench) -> Result<()> {
    run(cargo(&["build", "--release", "--package", "cloud-broker", "--package", "bench"]))?;
    let bench = workspace_root().join("target/release/bench");
    let bench = bench.to_string_lossy();
    match what {
        Bench::Kafka { arguments } => {
            setup::install_librdkafka()?;
            let classes = setup::install_kafka()?;
            let load = "target/bench/kafka_load";
            let source = "bench/clients/kafka_load.c";
            run(command("cc", &["-O2", "-Wall", "-Wextra", "-o", load, source, "-lrdkafka"]))?;
            let mut kafka = command(&bench, &["kafka"]);
            kafka.arg("--classes").arg(classes).args(["--load", load]).args(arguments);
            run(kafka)
        }
        Bench::Log { arguments } => {
            let mut log = command(&bench, &["log"]);
            log.args(arguments);
            run(log)
        }
    }
}
