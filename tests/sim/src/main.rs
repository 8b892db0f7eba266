//! `cargo run -p sim -- --seed 7` shows one run; `-- --seeds 1000 [--from 0]` makes many.

use std::io::{self, Write};
use std::process::ExitCode;

use sim::{Keep, command, run};

const USAGE: &str = "sim --seed SEED | sim --seeds COUNT [--from SEED]";

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let mut out = io::stdout().lock();
    match (number("--seed"), number("--seeds")) {
        (Some(seed), None) => show(seed, &mut out),
        (None, Some(count)) => many(number("--from").unwrap_or(0), count, &mut out),
        _ => {
            writeln!(out, "{USAGE}")?;
            Ok(ExitCode::from(2))
        }
    }
}

/// Prints the trace of one run.
fn show(seed: u64, out: &mut impl Write) -> io::Result<ExitCode> {
    let outcome = run(seed, Keep::Lines);
    out.write_all(outcome.trace.unwrap_or_default().as_bytes())?;
    Ok(if outcome.result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes runs until one breaks a promise.
fn many(from: u64, count: u64, out: &mut impl Write) -> io::Result<ExitCode> {
    for seed in from..from + count {
        if let Err(violation) = run(seed, Keep::Hash).result {
            writeln!(out, "seed {seed}, after {} ms: {}", violation.ms, violation.what)?;
            writeln!(out, "repeat it: {}", command(seed))?;
            return Ok(ExitCode::FAILURE);
        }
    }
    writeln!(out, "{count} seeds from {from}: every promise kept")?;
    Ok(ExitCode::SUCCESS)
}
