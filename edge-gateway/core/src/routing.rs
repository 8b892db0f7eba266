//! Which topic, lane and key a reading gets. For now one route: everything goes to the default topic.

use wire::ids::Lane;
use wire::limits::{CONTROL_TOPIC, DEFAULT_TOPIC};

/// The log topic that a lane's rows go to.
#[must_use]
pub fn topic_of(lane: Lane) -> &'static str {
    match lane {
        Lane::Control => CONTROL_TOPIC,
        Lane::Live => DEFAULT_TOPIC,
    }
}

/// The topics that HELLO names, in the order of [`Lane::ALL`].
#[must_use]
pub fn topics() -> Vec<&'static str> {
    Lane::ALL.into_iter().map(topic_of).collect()
}
