//! Hands the linker the board's memory map.

use std::path::PathBuf;
use std::{env, fs};

const MEMORY: &str = "memory.x";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(MEMORY, out.join(MEMORY))?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rerun-if-changed={MEMORY}");
    Ok(())
}
