//! Hands the linker the board's memory map, and cortex-m-rt's script that uses it. Here and not in `.cargo/config.toml`,
//! where `RUSTFLAGS` would override it.

use std::path::PathBuf;
use std::{env, fs};

const MEMORY: &str = "memory.x";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(MEMORY, out.join(MEMORY))?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    // Sections need not begin on pages: there is no memory management to map them.
    println!("cargo::rustc-link-arg-bins=--nmagic");
    println!("cargo::rerun-if-changed={MEMORY}");
    Ok(())
}
