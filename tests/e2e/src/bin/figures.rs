//! Start time and idle memory of `culvert up`, for a person to read: times wobble too much to be asserted.

use std::time::Duration;

use anyhow::Result;
use e2e::{scenario, up};

const ROUNDS: usize = 5;

/// Long enough for what starting left behind to be given back.
const IDLE: Duration = Duration::from_secs(3);

fn main() {
    scenario(&[], |stage| {
        let mut rows = Vec::new();
        for round in 0..ROUNDS {
            let folder = stage.path(&format!("empty-{round}"));
            let mut process = up(stage)?.flag("--data-dir", &folder).start()?;
            let fresh = process.started.elapsed();
            std::thread::sleep(IDLE);
            let resident = process.resident_bytes()?;
            process.interrupt()?;
            process.wait(e2e::PATIENCE)?;
            let process = up(stage)?.flag("--data-dir", &folder).start()?;
            rows.push((fresh, process.started.elapsed(), resident));
        }
        print(&rows)
    });
}

#[expect(clippy::print_stdout, reason = "the output is what the program is for")]
fn print(rows: &[(Duration, Duration, u64)]) -> Result<()> {
    println!("culvert up: {}", e2e::Tested::Culvert.path()?.display());
    println!("exec to listening, empty folder | again | resident after 3 s idle");
    for (fresh, again, resident) in rows {
        println!(
            "{:>28.1} ms | {:>6.1} ms | {:>6.1} MiB",
            fresh.as_secs_f64() * 1e3,
            again.as_secs_f64() * 1e3,
            *resident as f64 / f64::from(1 << 20)
        );
    }
    Ok(())
}
