//! `culvert tail`: prints readings as they arrive.
//!
//! Records go to standard output, everything else to standard error, so that the output can be piped on.

mod print;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use process::{Shutdown, watch_signals};
use wire::limits::is_topic_name;

use crate::kafka::{LogRecord, Start, Step, TopicReader};

/// What `culvert tail` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topic to follow; gateways append to "telemetry".
    topic: String,
    /// HOST:PORT of the broker's Kafka listener.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// Begin with what comes from now on, or with the oldest record.
    #[arg(long, value_enum, default_value = "end")]
    from: From,
    /// End after this many records.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object per line: topic, partition, offset, timestamp, key, headers, value.
    #[arg(long)]
    json: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// With what comes from now on.
    End,
    /// With the oldest record.
    Start,
}

/// Runs until `--count` is reached, a signal comes or nobody reads the output any more (exit code 0), or the log cannot be
/// read at all (1).
pub fn run(arguments: &Arguments) -> ExitCode {
    match run_to_the_end(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("culvert: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_to_the_end(arguments: &Arguments) -> Result<()> {
    let topic = &arguments.topic;
    ensure!(is_topic_name(topic), "{topic:?} cannot be the name of a topic");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(tail(arguments))
}

async fn tail(arguments: &Arguments) -> Result<()> {
    let (trigger, shutdown) = Shutdown::new();
    watch_signals(trigger.clone());
    let start = match arguments.from {
        From::End => Start::End,
        From::Start => Start::Beginning,
    };
    let mut reader = TopicReader::new(arguments.bootstrap.clone(), &arguments.topic, start)?;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        let step = tokio::select! {
            () = shutdown.requested() => break,
            step = reader.next() => step?,
        };
        match step {
            Step::Notice(notice) => eprintln!("culvert: {notice}"),
            Step::Records(records) => {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(records.len());
                match print(arguments, &records[..wanted]) {
                    // Whoever read the output has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                    printed => printed.context("cannot write the output")?,
                }
                left -= wanted as u64;
            }
        }
    }
    trigger.outcome().map_or(Ok(()), |error| Err(error.into()))
}

fn print(arguments: &Arguments, records: &[LogRecord]) -> std::io::Result<()> {
    let mut lines = String::new();
    for record in records {
        match arguments.json {
            true => print::json_line(&arguments.topic, record, &mut lines),
            false => print::human_line(record, &mut lines),
        }
        lines.push('\n');
    }
    let mut output = std::io::stdout().lock();
    output.write_all(lines.as_bytes())?;
    output.flush()
}
