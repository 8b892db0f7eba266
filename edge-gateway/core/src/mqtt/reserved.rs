//! The topics below `culvert/`, which belong to the gateway and to device SDKs (docs/protocols/mqtt.md).

use crate::device_batch;

/// Where the gateway keeps its spool's id, retained.
pub const GATEWAY_TOPIC: &str = "culvert/v1/gateway";

/// Whether a topic is one of them, or what they are all below.
pub(super) fn is_reserved(topic: &str) -> bool {
    let root = device_batch::RESERVED_PREFIX.trim_end_matches('/');
    topic == root || device_batch::is_reserved(topic.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_batch::batch_device;

    #[test]
    fn the_namespace_and_its_batches() {
        for (topic, reserved, device) in [
            ("culvert", true, None),
            ("culvert/", true, None),
            ("culvert/v1/gateway", true, None),
            ("culvert/v1/dev-1/batch", true, Some("dev-1")),
            ("culvert/v1/a/b/batch", true, Some("a/b")),
            ("culvert/v1//batch", true, Some("")),
            ("culvert/v1/batch", true, None),
            ("culvert/v2/dev-1/batch", true, None),
            ("culvert/v1/dev-1/batch/", true, None),
            ("culverts/v1/dev-1/batch", false, None),
            ("/culvert/v1/x/batch", false, None),
            ("a", false, None),
        ] {
            assert_eq!((is_reserved(topic), batch_device(topic)), (reserved, device), "{topic}");
        }
    }
}
