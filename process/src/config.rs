//! Settings in layers: flags over environment over file over defaults.
//!
//! A config struct is flat and every field an `Option`, declared with [`layered!`](crate::layered). Clap fills it from
//! flags and environment, [`read_toml`] from the file, and [`Layer::over`] puts one over the other; defaults come in where
//! the process turns it into its resolved settings.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A config file larger than this is not a config file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// Something that can be put over another of its kind, keeping what it says and taking the rest from below.
pub trait Layer {
    /// This layer's values where it has them, `lower`'s otherwise.
    #[must_use]
    fn over(self, lower: Self) -> Self;
}

impl<T> Layer for Option<T> {
    fn over(self, lower: Self) -> Self {
        self.or(lower)
    }
}

/// Declares a config struct once: its flags, its environment variables, its keys in the file and its layering.
///
/// Each field `name: Type = "CULVERT_…_NAME"` becomes `pub name: Option<Type>`, the flag `--name`, the environment variable
/// and the key `name` of the TOML file; unknown keys are refused. Field attributes (docs, `#[arg(…)]`) are kept. The using
/// package needs `clap` (features `derive`, `env`) and `serde`.
///
/// ```
/// process::layered! {
///     /// Settings of a lamp.
///     pub struct Config {
///         /// How bright, in lumen.
///         brightness: u32 = "CULVERT_LAMP_BRIGHTNESS",
///     }
/// }
/// use process::Layer;
/// let flags = Config { brightness: Some(800) };
/// assert_eq!(flags.over(Config::default()).brightness, Some(800));
/// ```
#[macro_export]
macro_rules! layered {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty = $env:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, ::clap::Args, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $visibility struct $name {
            $( $(#[$field_meta])* #[arg(long, env = $env)] pub $field: Option<$type>, )*
        }

        impl $crate::Layer for $name {
            fn over(self, lower: Self) -> Self {
                Self { $( $field: $crate::Layer::over(self.$field, lower.$field), )* }
            }
        }
    };
}

/// Why a config file cannot be used: the operator must mend the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is larger than [`CONFIG_FILE_BYTES_MAX`].
    #[error("{}: larger than {CONFIG_FILE_BYTES_MAX} bytes, this is not a config file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML, has a key nobody knows, or a value of the wrong kind.
    #[error("{}, line {line} ({key}): {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key on that line, or what stands there instead.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Reads a TOML file into a config struct.
///
/// # Errors
/// [`ConfigError`] names the file, and for a mistake in it the line and the key.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > CONFIG_FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| invalid(path, &text, &error))
}

fn invalid(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let position = error.span().map_or(0, |span| span.start.min(text.len()));
    let line_index = text.as_bytes()[..position].iter().filter(|byte| **byte == b'\n').count();
    let line = text.lines().nth(line_index).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    ConfigError::Invalid {
        path: path.to_owned(),
        line: line_index + 1,
        key: key.to_owned(),
        detail: error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests;
