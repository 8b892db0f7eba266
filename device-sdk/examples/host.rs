//! A device on a computer: `cargo run -p device-sdk --example host -- 127.0.0.1:1883 dev1 100` publishes 100 readings to
//! a gateway and ends when all are acknowledged.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "an example is a program, not a core"
)]

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use device_sdk::batcher::{BatchLimits, Batcher};
use device_sdk::client::{self, ClientSettings, Connector};
use device_sdk::device::Device;
use device_sdk::identity::DeviceId;
use device_sdk::mqtt::{Minimq, MqttSettings};
use device_sdk::outbox::{Outbox, OutboxSettings, WhenFull};
use device_sdk::queue::RamQueue;
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;
use wire::ids::QueueId;
use wire::reading::{ClockQuality, Quality, Reading, Sensor, Value, ValueKind};

const SENSORS: [Sensor<'static>; 2] = [
    Sensor { name: "temp", unit: "Cel", kind: ValueKind::Scaled { decimals: 2 } },
    Sensor { name: "vibration", unit: "m/s2", kind: ValueKind::Float },
];

/// TCP to one address.
struct Tcp(String);

impl Connector for Tcp {
    type Transport<'a> = FromTokio<TcpStream>;
    type Error = std::io::Error;

    async fn connect(&mut self) -> Result<FromTokio<TcpStream>, std::io::Error> {
        let stream = TcpStream::connect(&self.0).await?;
        stream.set_nodelay(true)?;
        Ok(FromTokio::new(stream))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, count] = arguments.as_slice() else {
        return Err("usage: host ADDRESS DEVICE READINGS".into());
    };
    let id = DeviceId::new(name).ok_or("a device id has 1 to 64 of A-Z a-z 0-9 . _ - :")?;
    let count: u32 = count.parse()?;

    let mut batch = [0; 512];
    let queue = QueueId(getrandom::u64()?);
    let batcher = Batcher::new(queue, &SENSORS, &mut batch, BatchLimits::default())?;
    let settings = OutboxSettings { when_full: WhenFull::DropOldest, window: 4 };
    let device = Device::new(Outbox::new(batcher, RamQueue::<16_384>::new(), settings)?);
    device.set_clock(ClockQuality::Synced);

    let (mut rx, mut tx) = ([0; 256], [0; 3_072]);
    let mqtt = MqttSettings { device: id, credentials: None, keep_alive_s: 60 };
    let mut mqtt = Minimq::new(mqtt, &mut rx, &mut tx);
    let mut connector = Tcp(address.clone());
    let run = client::run(
        &device,
        id,
        &mut connector,
        &mut mqtt,
        ClientSettings::default(),
        || getrandom::u32().unwrap_or(0),
        |event| eprintln!("{event:?}"),
    );
    tokio::select! {
        never = run => match never {},
        () = sample(&device, count) => {}
    }
    let counts = device.counts();
    println!(
        "{} recorded, {} acknowledged, {} lost",
        counts.recorded, counts.acknowledged, counts.lost
    );
    Ok(())
}

/// Takes a reading every few milliseconds, then waits until a gateway has them all.
async fn sample(device: &Device<'_, RamQueue<16_384>>, count: u32) {
    for i in 0..count {
        let sensor = u8::from(i % 4 == 3);
        let value = match sensor {
            0 => Value::Scaled(2_150 + i64::from(i % 40)),
            _ => Value::Float((i as f32 / 10.0).sin()),
        };
        let reading = Reading { sensor, time_ms: unix_ms(), value, quality: Quality::Good };
        if let Err(error) = device.record(client::now(), &reading) {
            eprintln!("{error}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    device.flush();
    device.drained().await;
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
