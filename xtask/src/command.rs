//! Child processes with inherited output and no input, echoed before they run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// A child that ended badly. The whole task ends with its code.
#[derive(Debug)]
pub struct CommandFailed {
    line: String,
    /// The child's exit code; 1 if a signal ended it.
    pub code: u8,
}

impl std::fmt::Display for CommandFailed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` failed", self.line)
    }
}

impl std::error::Error for CommandFailed {}

/// The folder of the root manifest.
pub fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// A command that runs in the workspace root.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace_root());
    command
}

/// The cargo that runs this task, with `arguments`.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&program, arguments)
}

/// Runs `command` to its end with inherited output.
///
/// # Errors
/// [`CommandFailed`] if it ends badly; another error if it cannot be started.
pub fn run(mut command: Command) -> Result<()> {
    let line = line(&command);
    eprintln!("$ {line}");
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    judge(line, status)
}

/// Runs `command` to its end and returns what it printed; its errors are inherited.
///
/// # Errors
/// As [`run`].
pub fn output(mut command: Command) -> Result<String> {
    let line = line(&command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    judge(line, output.status)?;
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}

/// Whether `program` is on the search path.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn judge(line: String, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(CommandFailed { line, code }.into())
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_carries_its_code() {
        assert!(run(command("true", &[])).is_ok());
        let error = run(command("sh", &["-c", "exit 7"])).unwrap_err();
        let failed = error.downcast_ref::<CommandFailed>().unwrap();
        assert_eq!(failed.code, 7);
        assert_eq!(failed.to_string(), "`sh -c exit 7` failed");
        let error = run(command("sh", &["-c", "kill -9 $$"])).unwrap_err();
        assert_eq!(error.downcast_ref::<CommandFailed>().unwrap().code, 1);
        assert!(run(command("no-such-program", &[])).is_err());
    }

    #[test]
    fn children_have_no_input() {
        assert_eq!(output(command("cat", &[])).unwrap(), "");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program"));
    }
}
