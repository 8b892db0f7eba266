//! `cargo xtask setup`: the toolchain, a C compiler, the foreign clients that interoperability tests run, and
//! the emulator that runs the firmware.
//!
//! Only clients are installed, never a service: a broker that started with its package would take the MQTT port.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::command::{command, is_installed, output, run, workspace_root};

/// A program that must be on the search path, and the Debian packages that bring it.
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    Tool { program: "cc", packages: &["gcc", "libc6-dev"] },
    Tool { program: "java", packages: &["default-jdk-headless"] },
    Tool { program: "kcat", packages: &["kcat"] },
    Tool { program: "mosquitto_pub", packages: &["mosquitto-clients"] },
    Tool { program: "mvn", packages: &["maven"] },
    Tool { program: "python3", packages: &["python3", "python3-venv"] },
    Tool { program: "qemu-system-arm", packages: &["qemu-system-arm"] },
];

/// The Python clients of MQTT and Kafka; pinned, because a test that fails must mean that we changed.
const PYTHON_CLIENTS: &[&str] = &["confluent-kafka==2.16.1", "paho-mqtt==2.1.0"];

/// The release of Kafka whose Java clients run.
const KAFKA_TOOLS: &str = "4.1.0";

/// Installs what is missing. Does nothing, quickly, when nothing is.
pub fn install() -> Result<()> {
    if is_installed("rustup") {
        run(command("rustup", &["toolchain", "install", "--no-self-update"]))?;
    }
    install_packages(&missing_packages(is_installed))?;
    install_python_clients()?;
    install_java_clients()
}

/// The folder of the jars of Kafka's own clients and tools.
pub fn java_classes() -> PathBuf {
    java_environment().join("classes")
}

/// The Python interpreter that has the foreign clients.
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

fn install_python_clients() -> Result<()> {
    let environment = environment();
    let installed = environment.join(PYTHON_CLIENTS.join("+"));
    if installed.is_file() {
        return Ok(());
    }
    let path = environment.to_string_lossy();
    run(command("python3", &["-m", "venv", "--clear", &path]))?;
    let python = python();
    let mut pip = vec!["-m", "pip", "install", "--quiet", "--no-input"];
    pip.extend(PYTHON_CLIENTS);
    run(command(&python.to_string_lossy(), &pip))?;
    // Written last: an installation that was interrupted is done again.
    std::fs::write(installed, "")?;
    Ok(())
}

/// Kafka's tools with everything that they need; Maven resolves the rest as their authors pinned it.
fn install_java_clients() -> Result<()> {
    install_jars(&java_environment(), &["kafka-tools"])
}

/// Kafka's broker with its tools, to be measured against; returns the folder of their jars.
pub fn install_kafka() -> Result<PathBuf> {
    let environment = workspace_root().join("target/bench/kafka");
    install_jars(&environment, &["kafka-tools", "kafka_2.13"])?;
    Ok(environment.join("classes"))
}

/// What clients in C are built with.
pub fn install_librdkafka() -> Result<()> {
    let is_there = Path::new("/usr/include/librdkafka/rdkafka.h").is_file();
    if is_there { Ok(()) } else { install_packages(&["librdkafka-dev"]) }
}

fn install_jars(environment: &Path, artifacts: &[&str]) -> Result<()> {
    let installed = environment.join(format!("{}-{KAFKA_TOOLS}", artifacts.join("+")));
    if installed.is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(environment)?;
    let pom = environment.join("pom.xml");
    std::fs::write(&pom, project(artifacts))?;
    let classes = environment.join("classes");
    if classes.exists() {
        std::fs::remove_dir_all(&classes)?;
    }
    let pom = format!("--file={}", pom.display());
    let classes = format!("-DoutputDirectory={}", classes.display());
    let goal = "dependency:copy-dependencies";
    run(command("mvn", &["-q", "-B", &pom, goal, "-DincludeScope=runtime", &classes]))?;
    std::fs::write(installed, "")?;
    Ok(())
}

/// A Maven project that needs nothing but these artifacts of Kafka's.
fn project(artifacts: &[&str]) -> String {
    let dependency = |artifact: &&str| {
        format!(
            "<dependency><groupId>org.apache.kafka</groupId>\
             <artifactId>{artifact}</artifactId><version>{KAFKA_TOOLS}</version></dependency>"
        )
    };
    let dependencies: String = artifacts.iter().map(dependency).collect();
    format!(
        "<project><modelVersion>4.0.0</modelVersion>\
         <groupId>interop</groupId><artifactId>interop</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>\n"
    )
}

fn java_environment() -> PathBuf {
    workspace_root().join("target/interop-java")
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
