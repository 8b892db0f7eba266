//! The `culvert` command.

mod demo;
mod kafka;
mod log;
mod parts;
mod tail;
mod text;
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
    /// Pulls the plug between a gateway and a broker while devices publish, and accounts for every reading.
    Demo(demo::Arguments),
    /// Looks into the files of the broker's log.
    #[command(subcommand)]
    Log(log::Command),
    /// Prints readings as they arrive in a topic of the log.
    Tail(tail::Arguments),
    /// Runs a gateway and a broker in one process, with nothing to prepare.
    Up(Box<up::Arguments>),
    /// Prints the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Log(command) => log::run(&command),
        Command::Tail(arguments) => tail::run(&arguments),
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
