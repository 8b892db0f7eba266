use wire::ids::{Partition, ProducerId, TopicId};

use super::*;

const KEY: StreamKey =
    StreamKey { pid: ProducerId::UPLINK_MIN, topic: TopicId([1; 16]), partition: Partition(0) };

fn seq(number: i32) -> StreamSeq {
    StreamSeq::new(number).unwrap()
}

fn batch(number: u64, base: i32, count: u32, prev_tag: u64) -> Batch {
    Batch {
        number: BatchNo(number),
        lane: Lane::Live,
        stream: KEY,
        partitions: 1,
        epoch: StreamEpoch::FIRST,
        base: seq(base),
        count,
        prev_tag: Tag(prev_tag),
        tag: Tag(number * 10),
        from: RowNo(number),
        to: RowNo(number + 1),
        backfill: false,
    }
}

fn at(epoch: i16, last: i32, tag: u64) -> Option<StreamState> {
    Some(StreamState { epoch: StreamEpoch(epoch), last: StreamSeq::new(last), tag: Tag(tag) })
}

/// A stream acknowledged through 4 (tag 5), with batches 5–6 (tag 10), 7–9 (tag 20) and 10 (tag 30), all sent.
fn sent() -> Window {
    let acked = at(0, 4, 5).unwrap();
    let stream = Stream { lane: Lane::Live, key: KEY, acked };
    let batches = [batch(1, 5, 2, 5), batch(2, 7, 3, 10), batch(3, 10, 1, 20)];
    let mut window = Window::recovered(&[stream], &batches);
    assert_eq!(window.take_unsent(MonoMs(0), 9), None, "nothing is sent before a session opens");
    window.open_lane(Lane::Live);
    for expected in &batches {
        assert_eq!(window.take_unsent(MonoMs(0), 9).as_ref(), Some(expected));
    }
    window
}

#[test]
fn table_of_what_states_mean() {
    let trimmed = |n: usize| {
        let all = [batch(1, 5, 2, 5), batch(2, 7, 3, 10), batch(3, 10, 1, 20)];
        Outcome::Trimmed(all[..n].to_vec())
    };
    // (tag of the frame answered, state) → outcome
    let table = [
        ((10, at(0, 6, 10)), trimmed(1)),
        ((10, at(0, 9, 20)), trimmed(2)),
        ((30, at(0, 10, 30)), trimmed(3)),
        ((99, at(0, 9, 20)), trimmed(2)),
        ((10, at(0, 9, 21)), Outcome::Forked),
        ((10, at(0, 11, 40)), Outcome::Forked),
        ((10, at(0, 8, 20)), Outcome::Forked),
        ((10, at(0, 4, 6)), Outcome::Forked),
        ((99, at(0, 4, 6)), Outcome::Forked),
        ((10, at(1, -1, 7)), Outcome::Forked),
        ((10, at(0, 4, 5)), Outcome::Rewound),
        ((20, at(0, 4, 5)), Outcome::Ignored),
        ((99, at(0, 4, 5)), Outcome::Ignored),
        ((10, at(0, 3, 3)), Outcome::Regressed),
        ((99, at(0, 3, 3)), Outcome::Ignored),
        ((10, None), Outcome::Regressed),
        ((99, None), Outcome::Ignored),
    ];
    for ((answers, state), expected) in table {
        let answer = State { stream: KEY, answers: Tag(answers), state, previous: None };
        assert_eq!(sent().on_state(MonoMs(0), &answer), expected, "{answers} {state:?}");
    }
}

/// Another connection's answer overtakes: what was answered before it says nothing against it.
#[test]
fn only_a_frame_sent_after_the_last_trim_can_tell_a_regression() {
    let answer =
        |answers, state| State { stream: KEY, answers: Tag(answers), state, previous: None };
    let mut window = sent();
    let trimmed = window.on_state(MonoMs(0), &answer(99, at(0, 6, 10)));
    assert_eq!(trimmed, Outcome::Trimmed(vec![batch(1, 5, 2, 5)]));
    for (answers, state, expected) in [
        (10, at(0, 4, 5), Outcome::Ignored),
        (30, None, Outcome::Ignored),
        (20, at(0, 4, 5), Outcome::Rewound),
    ] {
        assert_eq!(window.on_state(MonoMs(0), &answer(answers, state)), expected, "{answers}");
    }
    assert_eq!(window.take_unsent(MonoMs(RETRY_MS), 9), Some(batch(2, 7, 3, 10)));
    let behind = window.on_state(MonoMs(RETRY_MS), &answer(20, at(0, 4, 5)));
    assert_eq!(behind, Outcome::Regressed);
}

#[test]
fn the_first_answer_to_a_frame_sent_twice_tells_no_regression() {
    let answer =
        |answers, state| State { stream: KEY, answers: Tag(answers), state, previous: None };
    let mut window = sent();
    window.on_state(MonoMs(0), &answer(99, at(0, 6, 10)));
    assert_eq!(window.on_state(MonoMs(0), &answer(20, at(0, 6, 10))), Outcome::Rewound);
    for number in 2..=3 {
        let again = window.take_unsent(MonoMs(RETRY_MS), 9);
        assert_eq!(again.map(|batch| batch.number), Some(BatchNo(number)));
    }
    assert_eq!(window.on_state(MonoMs(RETRY_MS), &answer(30, at(0, 4, 5))), Outcome::Ignored);
    assert_eq!(window.on_state(MonoMs(RETRY_MS), &answer(20, at(0, 4, 5))), Outcome::Regressed);
}

#[test]
fn an_epoch_that_was_left_behind_says_nothing() {
    let acked = at(3, 4, 5).unwrap();
    let mut window = Window::recovered(&[Stream { lane: Lane::Live, key: KEY, acked }], &[]);
    let late = State { stream: KEY, answers: Tag(1), state: at(2, 99, 8), previous: None };
    assert_eq!(window.on_state(MonoMs(0), &late), Outcome::Ignored);
}

#[test]
fn a_rewound_stream_waits_longer_each_time_and_is_sent_again_in_order() {
    let mut window = sent();
    let mut now = MonoMs(1_000);
    for round in 0..9 {
        let misfit = State { stream: KEY, answers: Tag(10), state: at(0, 4, 5), previous: None };
        assert_eq!(window.on_state(now, &misfit), Outcome::Rewound);
        assert_eq!(window.take_unsent(now, 9), None, "paused");
        let retry = window.next_retry(now).expect("a retry is due");
        assert_eq!(retry - now, RETRY_MS << round.min(6));
        now = retry;
        assert_eq!(window.next_retry(now), None, "nothing to wait for: it may be sent");
        for number in 1..=3 {
            assert_eq!(window.take_unsent(now, 9).map(|b| b.number), Some(BatchNo(number)));
        }
    }
}

#[test]
fn no_more_frames_go_out_than_the_broker_allows() {
    let mut window = sent();
    window.push(batch(4, 11, 1, 30));
    assert_eq!(window.take_unsent(MonoMs(0), 3), None);
    let answer = State { stream: KEY, answers: Tag(10), state: at(0, 6, 10), previous: None };
    window.on_state(MonoMs(0), &answer);
    assert_eq!(window.take_unsent(MonoMs(0), 3).map(|b| b.number), Some(BatchNo(4)));
}

#[test]
fn a_hint_trims_and_does_nothing_else() {
    let mut window = sent();
    assert!(window.on_hint(KEY, at(0, 9, 21).unwrap()).is_empty());
    assert!(window.on_hint(KEY, at(0, 3, 3).unwrap()).is_empty());
    assert_eq!(window.on_hint(KEY, at(0, 6, 10).unwrap()).len(), 1);
    assert_eq!((window.len(Lane::Live), window.first_row(Lane::Live)), (2, Some(RowNo(2))));
    assert_eq!(window.head(KEY), at(0, 10, 30).unwrap());
}

#[test]
fn sequences_compare_across_the_wrap() {
    let wrap = |a: i32, b: i32| distance(StreamSeq::new(a), StreamSeq::new(b));
    assert_eq!(wrap(i32::MAX, 0), 1);
    assert_eq!(wrap(0, i32::MAX), -1);
    assert_eq!(wrap(5, 9), 4);
    assert_eq!(wrap(-1, 0), 1);
    assert_eq!(wrap(0, -1), -1);
}
