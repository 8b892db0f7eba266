//! What the firmware is told to do: words `name=value` on its command line.

use core::fmt;
use core::num::ParseIntError;

/// Readings that are made where nothing else is said.
const READINGS_DEFAULT: u32 = 1_000;
/// Between two readings, where nothing else is said.
const PAUSE_MS_DEFAULT: u32 = 5;
/// After this long the firmware gives up, where nothing else is said.
const PATIENCE_SECONDS_DEFAULT: u32 = 120;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The gateway's MQTT port on the host.
    pub port: u16,
    /// The device id.
    pub device: &'a str,
    /// How many readings.
    pub readings: u32,
    /// Milliseconds between two.
    pub pause_ms: u32,
    /// Seconds until it gives up.
    pub patience_seconds: u32,
    /// What is random follows from this: the board has no source of randomness.
    pub seed: u64,
}

/// Why a command line is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError<'a> {
    /// A value that is missing.
    Missing(&'static str),
    /// A value that is no number, or is out of range.
    NotANumber(&'a str, ParseIntError),
    /// A word that means nothing.
    Unknown(&'a str),
}

impl fmt::Display for PlanError<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(formatter, "{name}= is missing"),
            Self::NotANumber(word, error) => write!(formatter, "{word}: {error}"),
            Self::Unknown(word) => write!(formatter, "{word}: nothing is called so"),
        }
    }
}

impl<'a> Plan<'a> {
    /// Reads a command line, of which the first word is the program.
    ///
    /// # Errors
    /// Names the word that is wrong or missing.
    pub fn parse(command_line: &'a str) -> Result<Self, PlanError<'a>> {
        let (mut port, mut device, mut seed) = (None, None, None);
        let mut plan = Plan {
            port: 0,
            device: "",
            readings: READINGS_DEFAULT,
            pause_ms: PAUSE_MS_DEFAULT,
            patience_seconds: PATIENCE_SECONDS_DEFAULT,
            seed: 0,
        };
        for word in command_line.split_ascii_whitespace().skip(1) {
            let wrong = |error| PlanError::NotANumber(word, error);
            match word.split_once('=') {
                Some(("device", id)) => device = Some(id),
                Some(("patience", value)) => {
                    plan.patience_seconds = value.parse().map_err(wrong)?
                }
                Some(("pause", value)) => plan.pause_ms = value.parse().map_err(wrong)?,
                Some(("port", value)) => port = Some(value.parse().map_err(wrong)?),
                Some(("readings", value)) => plan.readings = value.parse().map_err(wrong)?,
                Some(("seed", value)) => seed = Some(value.parse().map_err(wrong)?),
                Some(_) | None => return Err(PlanError::Unknown(word)),
            }
        }
        plan.port = port.ok_or(PlanError::Missing("port"))?;
        plan.device = device.ok_or(PlanError::Missing("device"))?;
        plan.seed = seed.ok_or(PlanError::Missing("seed"))?;
        Ok(plan)
    }
}
