//! Frames as a line of the trace.

use wire::uplink::{Frame, State, StreamKey, StreamState};

/// What a frame says, without its records.
pub(crate) fn describe(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Hello(hello) => {
            format!("HELLO {} {} ({} streams)", hello.gateway, hello.spool, hello.streams.len())
        }
        Frame::Welcome(welcome) => {
            let states: Vec<String> = welcome
                .states
                .iter()
                .map(|(key, at)| format!("{} {}", stream(key), stands(at)))
                .collect();
            format!("WELCOME {} at {} {states:?}", welcome.broker, welcome.time.0)
        }
        Frame::Append(append) => format!(
            "APPEND {} {}:{}+{} {:016x} -> {:016x} ({} bytes)",
            stream(&append.stream),
            append.epoch.0,
            append.base.get(),
            append.count,
            append.prev_tag.0,
            append.tag.0,
            append.batch.len(),
        ),
        Frame::State(state) => format!("STATE {}", answer(state)),
        Frame::Refused(refused) => {
            format!("REFUSED {:?} {}", refused.code, answer(&refused.state))
        }
        Frame::NotOwner(not_owner) => format!("NOT_OWNER {}", stream(&not_owner.stream)),
        Frame::Reset(reset) => format!("RESET {} to {}", stream(&reset.stream), reset.epoch.0),
        Frame::Goodbye(reason, detail) => format!("GOODBYE {reason}: {detail}"),
    }
}

fn stream(key: &StreamKey) -> String {
    // The lane's name is in the producer id; its last digits tell streams apart.
    format!("{:05x}/{}", key.pid.0 & 0xf_ffff, key.partition)
}

fn answer(state: &State) -> String {
    let stands = state.state.as_ref().map_or_else(|| "nothing".to_owned(), stands);
    format!("{} {stands} to {:016x}", stream(&state.stream), state.answers.0)
}

fn stands(state: &StreamState) -> String {
    let last = state.last.map_or(-1, wire::seq::StreamSeq::get);
    format!("{}:{last} {:016x}", state.epoch.0, state.tag.0)
}
