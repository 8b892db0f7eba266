//! InitProducerId, versions 0 to 5, for idempotent producers.
//!
//! Transactions are not offered: a transactional id is answered with an error that clients take as final. (Clients repeat
//! what is retriable for ever, and librdkafka repeats most of what is not.)

use broker_kafka::ErrorCode;
use broker_kafka::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use wire::ids::ProducerId;

/// An InitProducerId request.
#[derive(Debug)]
pub struct InitProducerIdQuery {
    asked: Result<Asked, ErrorCode>,
}

/// What a producer without transactions may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Its next epoch (KIP-360).
    Epoch { pid: ProducerId, epoch: i16 },
    /// An id.
    Id,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitProducerIdAnswer(Result<(ProducerId, i16), ErrorCode>);

impl InitProducerIdQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &InitProducerIdRequest) -> Self {
        let asked = match (&request.transactional_id, request.producer_id, request.producer_epoch) {
            (Some(id), ..) if id.is_empty() => Err(ErrorCode::InvalidRequest),
            (Some(_), ..) => Err(ErrorCode::UnsupportedVersion),
            (None, -1, -1) => Ok(Asked::Id),
            (None, pid @ 0.., epoch @ 0..) => Ok(Asked::Epoch { pid: ProducerId(pid), epoch }),
            (None, ..) => Err(ErrorCode::InvalidRequest),
        };
        Self { asked }
    }

    /// The answer, as far as it takes no new id. `first_free` is the first id that nobody can have.
    pub(crate) fn without_id(&self, first_free: u64) -> Option<InitProducerIdAnswer> {
        match self.asked {
            Err(code) => Some(InitProducerIdAnswer(Err(code))),
            Ok(Asked::Epoch { pid, epoch })
                if u64::try_from(pid.0).is_ok_and(|pid| pid < first_free) =>
            {
                // The last epoch is left to the broker, as in Kafka: an id whose epochs are used up is given up.
                let next = epoch.checked_add(1).filter(|next| *next < i16::MAX);
                next.map(|next| InitProducerIdAnswer(Ok((pid, next))))
            }
            Ok(Asked::Epoch { .. } | Asked::Id) => None,
        }
    }
}

impl InitProducerIdAnswer {
    /// A new id.
    pub(crate) fn id(pid: ProducerId) -> Self {
        Self(Ok((pid, 0)))
    }

    /// There is none now. As Kafka says it; clients ask again.
    pub(crate) fn none_now() -> Self {
        Self(Err(ErrorCode::CoordinatorLoadInProgress))
    }

    /// There will be none.
    pub(crate) fn none_left() -> Self {
        Self(Err(ErrorCode::PolicyViolation))
    }

    pub(super) fn into_response(self) -> InitProducerIdResponse {
        match self.0 {
            Ok((pid, epoch)) => InitProducerIdResponse {
                producer_id: pid.0,
                producer_epoch: epoch,
                ..InitProducerIdResponse::default()
            },
            Err(code) => InitProducerIdResponse {
                error_code: i16::from(code),
                producer_epoch: -1,
                ..InitProducerIdResponse::default()
            },
        }
    }
}
