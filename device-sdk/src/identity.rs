//! Who a device is, and the topics it shares with a gateway.

use wire::ids::SpoolId;

/// The retained message in which a gateway says which spool it writes to.
pub const GATEWAY_TOPIC: &str = "culvert/v1/gateway";

const BATCH_TOPIC_START: &str = "culvert/v1/";
const BATCH_TOPIC_END: &str = "/batch";
const BATCH_TOPIC_LEN_MAX: usize =
    BATCH_TOPIC_START.len() + DeviceId::LEN_MAX + BATCH_TOPIC_END.len();

/// Name of a device: its MQTT client id, a level of its topic, and the key of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceId<'a>(&'a str);

impl<'a> DeviceId<'a> {
    /// Longest device id, in bytes.
    pub const LEN_MAX: usize = 64;

    /// Checks and takes a device id; `None` if it is empty, too long or has a character other than
    /// `A–Z a–z 0–9 . _ - :`.
    #[must_use]
    pub fn new(name: &'a str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
        let fits = (1..=Self::LEN_MAX).contains(&name.len()) && name.bytes().all(allowed);
        fits.then_some(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

/// The topic to which a device publishes its batches: `culvert/v1/<device id>/batch`.
#[derive(Debug, Clone, Copy)]
pub struct BatchTopic {
    bytes: [u8; BATCH_TOPIC_LEN_MAX],
    len: usize,
}

impl BatchTopic {
    /// The topic of this device.
    #[must_use]
    pub fn of(device: DeviceId<'_>) -> Self {
        let mut topic = Self { bytes: [0; BATCH_TOPIC_LEN_MAX], len: 0 };
        for part in [BATCH_TOPIC_START, device.as_str(), BATCH_TOPIC_END] {
            let end = topic.len + part.len();
            topic.bytes[topic.len..end].copy_from_slice(part.as_bytes());
            topic.len = end;
        }
        topic
    }

    /// The topic.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).expect("put together from ASCII")
    }
}

/// Reads the payload of [`GATEWAY_TOPIC`]: 32 lowercase hexadecimal digits. What follows them is for later versions.
#[must_use]
pub fn parse_spool(payload: &[u8]) -> Option<SpoolId> {
    let digits = payload.first_chunk::<32>()?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(SpoolId(id))
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn device_ids_are_checked() {
        for bad in ["", "a/b", "a+", "#", "$x", "a b", "ü", "a\0", &"x".repeat(65)] {
            assert_eq!(DeviceId::new(bad), None, "{bad:?}");
        }
        for good in ["dev1", "00:1B:44:11:3a:b7", "a.b_c-d", &"x".repeat(64)] {
            let id = DeviceId::new(good).unwrap();
            let topic = BatchTopic::of(id);
            assert_eq!(topic.as_str(), std::format!("culvert/v1/{good}/batch"));
        }
    }

    #[test]
    fn a_spool_id_is_what_its_display_writes() {
        let spool = SpoolId(*b"\x00\x01\x9f\xa0\xff\x10Culvert sp");
        let text = spool.to_string();
        assert_eq!(parse_spool(text.as_bytes()), Some(spool));
        assert_eq!(parse_spool((text.clone() + " v2").as_bytes()), Some(spool));
        assert_eq!(parse_spool(&text.as_bytes()[1..]), None);
        assert_eq!(parse_spool(text.to_uppercase().as_bytes()), None);
        assert_eq!(parse_spool(b""), None);
    }
}
