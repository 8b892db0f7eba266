//! One direction of a connection: what is sent arrives late and in order, or is lost with the connection.

use crate::rng::Rng;

/// The direction, without its messages: they travel in events, numbered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe {
    sent: u64,
    arrived: u64,
    last_ms: u64,
    /// Once it is cut: how many messages arrive in all.
    ends_at: Option<u64>,
}

impl Pipe {
    /// Sends a message: when it arrives, and its number. `None` if the connection is cut.
    pub(crate) fn send(&mut self, now_ms: u64, latency_ms: u64) -> Option<(u64, u64)> {
        if self.ends_at.is_some() {
            return None;
        }
        self.sent += 1;
        self.last_ms = self.last_ms.max(now_ms + latency_ms);
        Some((self.last_ms, self.sent))
    }

    /// Cuts the connection: some of what is on its way still arrives.
    pub(crate) fn cut(&mut self, rng: &mut Rng) {
        if self.ends_at.is_none() {
            let under_way = self.sent - self.arrived;
            let arrives = if rng.chance(50) { 0 } else { rng.below(under_way + 1) };
            self.ends_at = Some(self.arrived + arrives);
        }
    }

    /// Nothing arrives any more.
    pub(crate) fn close(&mut self) {
        self.ends_at = Some(self.arrived);
    }

    /// Whether this message, whose time has come, arrives.
    pub(crate) fn arrives(&mut self, number: u64) -> bool {
        let arrives = self.ends_at.is_none_or(|end| number <= end);
        if arrives {
            self.arrived = number;
        }
        arrives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_order_and_end_with_the_cut() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.send(10, 30), Some((40, 1)));
        assert_eq!(pipe.send(11, 5), Some((40, 2)), "not before the first");
        assert_eq!(pipe.send(12, 50), Some((62, 3)));
        assert!(pipe.arrives(1));
        pipe.cut(&mut Rng::new(1, "network"));
        assert_eq!(pipe.send(13, 1), None);
        let arrived: Vec<bool> = [2, 3].into_iter().map(|number| pipe.arrives(number)).collect();
        assert!(arrived.is_sorted_by(|one, next| one >= next), "no message overtakes a lost one");
        pipe.close();
        assert!(!pipe.arrives(4));
    }
}
