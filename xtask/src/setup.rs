//! `cargo xtask setup`: the toolchain, a C compiler, the foreign clients that interoperability tests run, and
//! the emulator that runs the firmware.
//!
//! Only clients are installed, never a service: a broker that started with its package would take the MQTT port.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::command::{command, is_installed, output, run, workspace_root};

/// A program that must be on the search path, and the Debian packages that bring it.
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    Tool { program: "cc", packages: &["gcc", "libc6-dev"] },
    Tool { program: "kcat", packages: &["kcat"] },
    Tool { program: "mosquitto_pub", packages: &["mosquitto-clients"] },
    Tool { program: "python3", packages: &["python3", "python3-venv"] },
    Tool { program: "qemu-system-arm", packages: &["qemu-system-arm"] },
];

/// The Python MQTT client; pinned, because a test that fails must mean that we changed.
const PAHO: &str = "paho-mqtt==2.1.0";

/// Installs what is missing. Does nothing, quickly, when nothing is.
pub fn install() -> Result<()> {
    if is_installed("rustup") {
        run(command("rustup", &["toolchain", "install", "--no-self-update"]))?;
    }
    install_packages(&missing_packages(is_installed))?;
    install_paho()
}

/// The Python interpreter that has the foreign MQTT client.
pub fn python() -> PathBuf {
    environment().join("bin/python")
}

fn missing_packages(is_installed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    TOOLS
        .iter()
        .filter(|tool| !is_installed(tool.program))
        .flat_map(|tool| tool.packages)
        .copied()
        .collect()
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    if !is_installed("apt-get") || output(command("id", &["-u"]))?.trim() != "0" {
        bail!(
            "the tests need more programs; install them with: sudo apt-get {}",
            install.join(" ")
        );
    }
    run(command("apt-get", &["update"]))?;
    let mut install = command("apt-get", &install);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

fn install_paho() -> Result<()> {
    let environment = environment();
    let installed = environment.join(PAHO);
    if installed.is_file() {
        return Ok(());
    }
    let path = environment.to_string_lossy();
    run(command("python3", &["-m", "venv", "--clear", &path]))?;
    let python = python();
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", PAHO];
    run(command(&python.to_string_lossy(), &pip))?;
    // Written last: an installation that was interrupted is done again.
    std::fs::write(installed, "")?;
    Ok(())
}

fn environment() -> PathBuf {
    workspace_root().join("target/interop-python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(missing_packages(|_| true), Vec::<&str>::new());
        assert_eq!(
            missing_packages(|program| program != "cc" && program != "kcat"),
            ["gcc", "libc6-dev", "kcat"]
        );
    }
}
