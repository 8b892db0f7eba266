//! `cargo xtask`: everything a contributor or a build machine runs, as one command each.

mod bench;
mod checks;
mod command;
mod firmware;
mod gen_wire;
mod kill_loop;
mod setup;
mod soak;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::CommandFailed;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and checks Culvert")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures the log and the broker, built for speed, and prints a table (docs/benchmarks.md).
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Everything a change must pass: `test`, then formatting, lints, docs, tidy and generated code.
    Ci,
    /// Builds the firmware that the end-to-end tests run on QEMU.
    Firmware,
    /// Writes the Kafka codec from Kafka's message definitions.
    GenWire {
        /// Only compare with what is committed.
        #[arg(long)]
        check: bool,
    },
    /// Kills both processes again and again under load and checks that no acknowledged reading is missing.
    KillLoop {
        /// How many times to kill.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// Installs what building and testing need: the toolchain, the foreign clients, and QEMU.
    Setup,
    /// Runs many seeds of the simulator, built for speed.
    Soak {
        /// How many seeds.
        #[arg(long, default_value_t = 100_000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// `setup`, then the bare-metal builds, the firmware, and every test.
    Test {
        /// Run only the tests whose name contains this.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Checks the rules of the house that no compiler knows.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Bench { what } => bench::measure(&what),
        Task::Ci => checks::ci(),
        Task::Firmware => firmware::build(),
        Task::GenWire { check } => gen_wire::run(check),
        Task::KillLoop { rounds } => kill_loop::soak(rounds),
        Task::Setup => setup::install(),
        Task::Soak { seeds, from } => soak::run_seeds(seeds, from),
        Task::Test { filter } => checks::test(filter.as_deref()),
        Task::Tidy => tidy::run(),
    };
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("xtask: {error:#}");
    match error.downcast_ref::<CommandFailed>() {
        Some(failed) => ExitCode::from(failed.code),
        None => ExitCode::FAILURE,
    }
}
