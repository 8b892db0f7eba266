//! The `culvert` command.

mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "culvert", version, about = "An IoT edge-to-cloud streaming gateway")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a gateway and a broker in one process, with nothing to prepare.
    Up(Box<up::Arguments>),
    /// Prints the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Version => {
            version();
            ExitCode::SUCCESS
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output is what the command is for")]
fn version() {
    println!("culvert {}", env!("CARGO_PKG_VERSION"));
}
