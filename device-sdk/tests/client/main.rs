//! The run loop over the real minimq, against a gateway by script.

#![expect(clippy::unwrap_used, reason = "what surprises a test fails it")]

mod gateway;
mod link;

use std::cell::RefCell;
use std::time::Duration;

use device_sdk::backoff::BackoffSettings;
use device_sdk::batcher::{BatchLimits, Batcher};
use device_sdk::client::{self, ClientSettings, Ending, Event};
use device_sdk::device::Device;
use device_sdk::identity::DeviceId;
use device_sdk::mqtt::{Minimq, MqttError, MqttSettings};
use device_sdk::outbox::{Counts, Outbox, OutboxSettings, Refusal, WhenFull};
use device_sdk::queue::RamQueue;
use gateway::{Gateway, Script};
use link::Link;
use tokio::sync::Notify;
use wire::ids::{QueueId, SpoolId};
use wire::reading::{Quality, Reading, Sensor, Value, ValueKind};
use wire::seq::DeviceSeq;

const SENSORS: [Sensor<'static>; 1] =
    [Sensor { name: "n", unit: "", kind: ValueKind::Scaled { decimals: 0 } }];

/// No run takes nearly as long; one that does is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Short, for gateways that never answer; long enough that a loaded machine's gateway does.
const PATIENCE_MS: u32 = 1_000;

const SETTINGS: ClientSettings = ClientSettings {
    backoff: BackoffSettings { first_ms: 2, max_ms: 20 },
    connect_timeout_ms: PATIENCE_MS,
    acknowledge_timeout_ms: PATIENCE_MS,
};

type TestDevice<'b> = Device<'b, RamQueue<4_096>>;

/// What a device told.
#[derive(Default)]
struct Told {
    events: RefCell<Vec<Event>>,
    ended: Notify,
}

impl Told {
    fn tell(&self, event: Event) {
        self.events.borrow_mut().push(event);
        if let Event::Disconnected { .. } = event {
            self.ended.notify_one();
        }
    }

    /// Waits until a connection has ended.
    async fn ending(&self) {
        self.ended.notified().await;
    }
}

/// Runs a device against `gateway` until `body` is done; returns what the device told.
async fn with_device(
    gateway: &Gateway,
    cuts: Vec<usize>,
    tx_bytes: usize,
    body: impl AsyncFnOnce(&TestDevice<'_>, &Told),
) -> (Counts, Vec<Event>) {
    let mut batch = [0; 128];
    let limits = BatchLimits { readings: 4, age_ms: 20 };
    let batcher = Batcher::new(QueueId(9), &SENSORS, &mut batch, limits).unwrap();
    let settings = OutboxSettings { when_full: WhenFull::DropNewest, window: 4 };
    let device = Device::new(Outbox::new(batcher, RamQueue::new(), settings).unwrap());
    let id = DeviceId::new("dev1").unwrap();
    let (mut rx, mut tx) = ([0; 256], vec![0; tx_bytes]);
    let mqtt = MqttSettings { device: id, credentials: None, keep_alive_s: 1 };
    let mut mqtt = Minimq::new(mqtt, &mut rx, &mut tx);
    let (mut link, accepted) = Link::new(cuts);
    let told = Told::default();
    let mut entropy = 0_u32;
    let entropy = || {
        entropy = entropy.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        entropy
    };
    let tell = |event| told.tell(event);
    let run = client::run(&device, id, &mut link, &mut mqtt, SETTINGS, entropy, tell);
    let all = async {
        tokio::select! {
            never = run => match never {},
            () = gateway.run(accepted) => panic!("the link is gone"),
            () = body(&device, &told) => {}
        }
    };
    tokio::time::timeout(STUCK, all).await.expect("the device is stuck");
    (device.counts(), told.events.into_inner())
}

fn record(device: &TestDevice<'_>, count: i64) {
    for value in 0..count {
        let value = Value::Scaled(value);
        let reading = Reading { sensor: 0, time_ms: 0, value, quality: Quality::Good };
        device.record(client::now(), &reading).unwrap();
    }
}

/// Records `count` readings at once and waits until they are acknowledged.
async fn deliver(gateway: &Gateway, cuts: Vec<usize>, count: i64) -> (Counts, Vec<Event>) {
    with_device(gateway, cuts, 1_024, async |device, _| {
        record(device, count);
        device.drained().await;
    })
    .await
}

fn endings(events: &[Event]) -> Vec<Ending> {
    let ending = |event: &Event| match event {
        Event::Connected(_) => None,
        Event::Disconnected { ending, .. } => Some(*ending),
    };
    events.iter().filter_map(ending).collect()
}

#[tokio::test]
async fn readings_arrive_once_and_in_order_whatever_a_gateway_does_first() {
    let refused = |code| Ending::Mqtt(MqttError::Refused(code));
    let closed = Ending::Mqtt(MqttError::Closed);
    for (script, ending) in [
        (Script::Close, closed),
        (Script::RefuseConnect(0x88), refused(0x88)),
        (Script::Silent, Ending::Silent),
        (Script::NoSpool, Ending::Silent),
        (Script::RefuseSubscribe(0x80), refused(0x80)),
        (Script::NoPuback, Ending::Silent),
        (Script::LosePuback(1), closed),
        (Script::LosePuback(3), closed),
        (Script::Refuse(9, 0x97), busy(9)),
    ] {
        let gateway = Gateway::new(&[script]);
        let (counts, events) = deliver(&gateway, Vec::new(), 18).await;
        assert_eq!(endings(&events), [ending], "{script:?}");
        assert_eq!(gateway.sequences(), Vec::from_iter(1..=18), "{script:?}");
        assert_eq!(counts, Counts { recorded: 18, acknowledged: 18, ..counts }, "{script:?}");
        assert!(gateway.topics.borrow().iter().all(|topic| topic == "culvert/v1/dev1/batch"));
        let connected = events.last() == Some(&Event::Connected(gateway.spool.get()));
        assert!(connected, "{script:?}: {events:?}");
    }
}

fn busy(first: u64) -> Ending {
    let first = DeviceSeq(first);
    Ending::BatchRefused { first, reason_code: 0x97, refusal: Refusal::Busy }
}

#[tokio::test]
async fn a_connection_may_be_cut_after_any_byte() {
    let mut cuts: Vec<usize> = (1..=400).step_by(7).collect();
    cuts.extend([1, 1, 1, 1_000, 2, 5_000]);
    let gateway = Gateway::new(&[]);
    let (counts, events) = deliver(&gateway, cuts, 160).await;
    assert_eq!(gateway.sequences(), Vec::from_iter(1..=160));
    assert_eq!((counts.lost, counts.refused), (0, 0));
    assert!(endings(&events).len() > 40, "the cuts happened");
    assert!(gateway.stored.borrow().iter().all(|(_, maybe_dup)| !maybe_dup), "it is one spool");
}

#[tokio::test]
async fn a_batch_that_no_gateway_takes_is_counted_and_declared() {
    let gateway = Gateway::new(&[Script::Refuse(6, 0x99)]);
    let (counts, events) = deliver(&gateway, Vec::new(), 12).await;
    assert_eq!(gateway.sequences(), [1, 2, 3, 4, 9, 10, 11, 12]);
    assert_eq!((counts.acknowledged, counts.refused, gateway.declared_lost.get()), (8, 4, 4));
    let refusal = Refusal::Invalid;
    let first = DeviceSeq(5);
    assert_eq!(endings(&events), [Ending::BatchRefused { first, reason_code: 0x99, refusal }]);
}

#[tokio::test]
async fn a_batch_larger_than_the_gateway_takes_is_refused_without_being_sent() {
    let gateway = Gateway::new(&[Script::PacketMax(50)]);
    let (counts, events) = deliver(&gateway, Vec::new(), 8).await;
    assert_eq!((gateway.sequences(), counts.refused), (vec![5, 6, 7, 8], 4));
    let (first, refusal) = (DeviceSeq(1), Refusal::Invalid);
    assert_eq!(endings(&events), [Ending::BatchRefused { first, reason_code: 0x95, refusal }]);
}

#[tokio::test]
async fn what_needs_a_setting_changed_waits_longest() {
    let not_authorized = Ending::BatchRefused {
        first: DeviceSeq(1),
        reason_code: 0x87,
        refusal: Refusal::NotAuthorized,
    };
    for (script, ending) in [
        (Script::Refuse(1, 0x87), not_authorized),
        (Script::RefuseConnect(0x86), Ending::Mqtt(MqttError::Refused(0x86))),
    ] {
        let gateway = Gateway::new(&[script]);
        let (counts, events) = deliver(&gateway, Vec::new(), 4).await;
        assert_eq!(counts.acknowledged, 4);
        let retry_ms = events.iter().find_map(|event| match event {
            Event::Disconnected { ending: found, retry_ms } => {
                (*found == ending).then_some(*retry_ms)
            }
            Event::Connected(_) => None,
        });
        assert!(retry_ms.is_some_and(|ms| ms >= SETTINGS.backoff.max_ms / 2), "{events:?}");
    }
}

#[tokio::test]
async fn failures_in_a_row_wait_longer_each_time() {
    let gateway = Gateway::new(&[Script::Close; 8]);
    let (_, events) = deliver(&gateway, Vec::new(), 4).await;
    let waits: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::Disconnected { retry_ms, .. } => Some(*retry_ms),
            Event::Connected(_) => None,
        })
        .collect();
    let full = [2, 4, 8, 16, 20, 20, 20, 20];
    assert!(waits.iter().zip(full).all(|(ms, full)| (full / 2..=full).contains(ms)), "{waits:?}");
    assert_eq!((waits.len(), gateway.connections.get()), (8, 9));
}

#[tokio::test]
async fn copies_for_another_spool_carry_their_flag() {
    let gateway = Gateway::new(&[Script::LosePuback(2)]);
    with_device(&gateway, Vec::new(), 1_024, async |device, told| {
        record(device, 8);
        // The first batch is acknowledged, the second stored; then another spool stands there.
        told.ending().await;
        gateway.replace_spool(SpoolId([8; 16]));
        record(device, 4);
        device.drained().await;
    })
    .await;
    let expected: Vec<_> = (1..=8)
        .map(|seq| (seq, false))
        .chain((5..=8).map(|seq| (seq, true)))
        .chain((9..=12).map(|seq| (seq, false)))
        .collect();
    assert_eq!(*gateway.stored.borrow(), expected);
}

#[tokio::test]
async fn a_buffer_too_small_for_a_batch_is_named() {
    let gateway = Gateway::new(&[]);
    let (counts, events) = with_device(&gateway, Vec::new(), 80, async |device, told| {
        record(device, 4);
        told.ending().await;
    })
    .await;
    assert_eq!(endings(&events)[0], Ending::Mqtt(MqttError::Buffer));
    assert_eq!(counts.waiting(), 4);
}

#[tokio::test]
async fn a_batch_waits_no_longer_than_its_age_and_an_idle_connection_is_kept_alive() {
    let gateway = Gateway::new(&[]);
    let (counts, events) = with_device(&gateway, Vec::new(), 1_024, async |device, _| {
        record(device, 1);
        device.drained().await;
        gateway.pinged.notified().await;
        gateway.pinged.notified().await;
        record(device, 1);
        device.drained().await;
    })
    .await;
    assert_eq!((counts.acknowledged, gateway.connections.get()), (2, 1));
    assert_eq!(events, [Event::Connected(gateway.spool.get())]);
}

#[tokio::test]
async fn many_devices_share_a_thread() {
    let gateways: Vec<_> = (0..50).map(|_| Gateway::new(&[Script::LosePuback(2)])).collect();
    let tasks = tokio::task::LocalSet::new();
    let gateways = std::rc::Rc::new(gateways);
    let run = async {
        let devices: Vec<_> = (0..gateways.len())
            .map(|index| {
                let gateways = gateways.clone();
                tokio::task::spawn_local(async move {
                    deliver(&gateways[index], vec![300, 100], 40).await;
                    assert_eq!(gateways[index].sequences(), Vec::from_iter(1..=40));
                })
            })
            .collect();
        for device in devices {
            device.await.unwrap();
        }
    };
    tasks.run_until(run).await;
}
