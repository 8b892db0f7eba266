//! One reading of one sensor, as a device sees it.

use serde::{Deserialize, Serialize};

/// What a device says about a value's worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Measured and plausible.
    Good,
    /// Measured, but the sensor or its calibration is in doubt.
    Uncertain,
    /// Not a measurement: the sensor failed.
    Bad,
}

/// What a device says about its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockQuality {
    /// Set from a source outside the device and kept since: times are milliseconds since 1970-01-01 UTC.
    Synced,
    /// Never set: times are milliseconds since the device started.
    Uptime,
}

/// How the values of a sensor travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// As IEEE 754 single precision.
    Float,
    /// As an integer with this many decimal places; neighbours are sent as differences.
    Scaled {
        /// Decimal places: the value is the integer × 10⁻ᵈ.
        decimals: u8,
    },
}

/// A measured value, of the kind that its sensor declares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Single precision.
    Float(f32),
    /// The integer of a scaled value, without its decimal places.
    Scaled(i64),
}

/// A sensor of a batch; readings name it by its place in the batch's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sensor<'a> {
    /// Name, unique on the device.
    pub name: &'a str,
    /// Unit as the user writes it (UCUM recommended), may be empty.
    pub unit: &'a str,
    /// How values travel.
    pub kind: ValueKind,
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Place of the sensor in the batch's table.
    pub sensor: u8,
    /// Milliseconds, by the batch's [`ClockQuality`].
    pub time_ms: i64,
    /// The value.
    pub value: Value,
    /// Its worth.
    pub quality: Quality,
}
