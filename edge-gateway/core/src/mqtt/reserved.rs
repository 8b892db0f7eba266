//! The topics below `culvert/`, which belong to the gateway and to device SDKs (docs/protocols/mqtt.md).

/// Where the gateway keeps its spool's id, retained.
pub const GATEWAY_TOPIC: &str = "culvert/v1/gateway";

const NAMESPACE: &str = "culvert";
const DEVICE_PREFIX: &str = "culvert/v1/";
const BATCH_SUFFIX: &str = "/batch";

/// Whether a topic is one of them.
pub(super) fn is_reserved(topic: &str) -> bool {
    topic.strip_prefix(NAMESPACE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The device whose batches go to this topic. A client identifier may hold a `/`.
#[must_use]
pub fn batch_device(topic: &str) -> Option<&str> {
    topic.strip_prefix(DEVICE_PREFIX)?.strip_suffix(BATCH_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
