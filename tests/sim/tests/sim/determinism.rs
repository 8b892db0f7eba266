//! One seed in two processes gives the same trace, byte for byte: what differs from process to process (addresses, hash
//! seeds, what ran before) must not reach a run.

use std::process::Command;

use sim::{Keep, run};

/// With faults of spools and without.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn trace_of_a_process(seed: u64) -> String {
    let program = env!("CARGO_BIN_EXE_sim");
    let output = Command::new(program).args(["--seed", &seed.to_string()]).output().unwrap();
    assert!(output.status.success(), "seed {seed}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_processes_give_one_trace() {
    for seed in SEEDS {
        let first = trace_of_a_process(seed);
        assert!(first.lines().count() > 100, "seed {seed}: something happens");
        assert_eq!(first, trace_of_a_process(seed), "seed {seed}");
        assert_eq!(Some(first), run(seed, Keep::Lines).trace, "seed {seed}, in this process");
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(run(1, Keep::Hash).hash, run(2, Keep::Hash).hash);
}
