//! Local delivery with clients that are not ours: what mosquitto and paho publish on a gateway reaches mosquitto and paho
//! on the same gateway.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use e2e::{
    Client, Connect, PATIENCE, Packet, Process, Settings, Stage, Subscriber, Tool, Version,
    connect_packet, metric, publish, read_topic, run_tool, scenario, until, up,
    wait_until_delivered,
};

const VERSIONS: [&str; 2] = ["5", "311"];

/// Topic, quality of service, RETAIN and payload.
const FORMAT: &str = "%t|%q|%r|%p";

fn start(stage: &Stage) -> Result<(Process, SocketAddr)> {
    let mut process = up(stage)?.start()?;
    let mqtt = process.address("mqtt")?;
    Ok((process, mqtt))
}

fn publish_well(mqtt: SocketAddr, arguments: &[&str]) -> Result<()> {
    let output = publish(mqtt, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    Ok(())
}

#[test]
fn every_pair_of_qualities_of_service() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let mut subscribers = Vec::new();
        for version in VERSIONS {
            for qos in ["0", "1", "2"] {
                let arguments = ["-V", version, "-q", qos, "-t", "plant/+/temp"];
                subscribers.push((qos, Subscriber::start(mqtt, FORMAT, &arguments)?));
            }
        }
        let mut sent = Vec::new();
        for version in VERSIONS {
            for qos in ["0", "1", "2"] {
                let payload = format!("{version} {qos}");
                let arguments = ["-V", version, "-q", qos, "-t", "plant/a/temp", "-m", &payload];
                publish_well(mqtt, &arguments)?;
                sent.push((qos, payload));
            }
        }
        for (granted, subscriber) in &subscribers {
            let expected: Vec<String> = (sent.iter())
                .map(|(qos, payload)| format!("plant/a/temp|{}|0|{payload}", qos.min(granted)))
                .collect();
            let received = subscriber.messages(expected.len())?;
            ensure!(received == expected, "QoS {granted}: {received:?}");
        }
        process.check_running()
    });
}

#[test]
fn the_gateway_names_its_spool() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (_process, mqtt) = start(stage)?;
        let mut ids = Vec::new();
        for version in VERSIONS {
            let arguments = ["-V", version, "-q", "1", "-t", "culvert/v1/gateway"];
            let subscriber = Subscriber::start(mqtt, FORMAT, &arguments)?;
            ids.extend(subscriber.messages(1)?);
        }
        ensure!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
        let id = ids[0].strip_prefix("culvert/v1/gateway|1|1|").unwrap_or("");
        let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(id.len() == 32 && is_hex, "{ids:?}");
        Ok(())
    });
}

#[test]
fn topics_of_the_gateway_are_its_own() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let all = Subscriber::start(mqtt, FORMAT, &["-q", "1", "-t", "culvert/v1/+/batch"])?;
        let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
        for (topic, complaint) in [
            ("culvert/v1/other/batch", "Not authorized"),
            ("culvert/v1/gateway", "Topic Name invalid"),
            ("culvert", "Topic Name invalid"),
        ] {
            #[rustfmt::skip]
            let arguments = [
                "-h", &host, "-p", &port, "-V", "5", "-i", "dev1", "-q", "1", "-t", topic, "-m", "x",
            ];
            let output = run_tool("mosquitto_pub", &arguments, PATIENCE)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(said.contains(complaint), "{topic}: {said:?}");
        }
        let will = ["-V", "5", "-i", "dev1", "-t", "t", "-m", "x", "--will-topic", "culvert/x"];
        let refused = publish(mqtt, &will)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(said.contains("Topic Name invalid"), "a will: {said:?}");
        ensure!(all.received()?.is_empty(), "{:?}", all.received()?);
        process.check_running()
    });
}

#[test]
fn wildcards_match_as_the_standard_says() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (_process, mqtt) = start(stage)?;
        let topics = ["a", "a/b", "a/b/c", "/a", "b/a", "a/", "A/b", "a/bc"];
        let table: [(&str, &[&str]); 7] = [
            ("a/#", &["a", "a/b", "a/b/c", "a/", "a/bc"]),
            ("a/+", &["a/b", "a/", "a/bc"]),
            ("+", &["a"]),
            ("+/+", &["a/b", "/a", "b/a", "a/", "A/b", "a/bc"]),
            ("a/b", &["a/b"]),
            ("/+", &["/a"]),
            ("+/b/#", &["a/b", "a/b/c", "A/b"]),
        ];
        let mut subscribers = Vec::new();
        for (filter, expected) in table {
            // The last topic is one that ends every wait.
            let arguments = ["-q", "1", "-t", filter, "-t", "end"];
            subscribers.push((filter, expected, Subscriber::start(mqtt, "%t", &arguments)?));
        }
        for topic in topics {
            publish_well(mqtt, &["-t", topic, "-m", "x"])?;
        }
        publish_well(mqtt, &["-t", "end", "-m", "x"])?;
        for (filter, expected, subscriber) in &subscribers {
            until(&format!("the end for {filter}"), PATIENCE, || {
                Ok(subscriber.received()?.contains(&"end".to_owned()).then_some(()))
            })?;
            let mut received = subscriber.received()?;
            received.retain(|topic| topic != "end");
            ensure!(received == *expected, "{filter}: {received:?}");
        }
        // What belongs to the server is matched by no leading wildcard, and published to by no client.
        let refused = publish(mqtt, &["-V", "5", "-t", "$SYS/x", "-m", "x"])?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(said.contains("Topic Name invalid"), "{said:?}");
        Ok(())
    });
}

#[test]
fn retained_messages_are_set_replaced_and_deleted() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (_process, mqtt) = start(stage)?;
        for version in VERSIONS {
            let topic = format!("state/{version}");
            let retained = |arguments: &[&str]| {
                let all = [&["-V", version, "-r", "-t", &topic][..], arguments].concat();
                publish_well(mqtt, &all)
            };
            let late = |count| {
                let arguments =
                    ["-V", version, "-q", "2", "-t", &topic, "-t", "culvert/v1/gateway"];
                Subscriber::start(mqtt, FORMAT, &arguments)?.messages(count)
            };
            retained(&["-q", "1", "-m", "old"])?;
            retained(&["-q", "2", "-m", "new"])?;
            let received = late(2)?;
            ensure!(received.contains(&format!("{topic}|2|1|new")), "{received:?}");
            let watching = Subscriber::start(mqtt, FORMAT, &["-V", version, "-t", &topic])?;
            ensure!(watching.messages(1)? == [format!("{topic}|0|1|new")], "{watching:?}");
            retained(&["-n"])?;
            let deleted = watching.messages(2)?;
            ensure!(deleted[1] == format!("{topic}|0|0|"), "{deleted:?}");
            let received = late(1)?;
            ensure!(received.len() == 1 && received[0].starts_with("culvert/"), "{received:?}");
        }
        Ok(())
    });
}

#[test]
fn a_will_is_a_reading_and_reaches_subscribers() {
    scenario(&[Tool::Mosquitto, Tool::Kcat], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let watching = Subscriber::start(mqtt, FORMAT, &["-q", "1", "-t", "will/+"])?;
        let mut expected = Vec::new();
        for version in VERSIONS {
            let topic = format!("will/{version}");
            let will = ["--will-topic", &topic, "--will-payload", "gone", "--will-qos", "1"];
            let own = ["-V", version, "-i", version, "--will-retain", "-t", "nothing"];
            let mut dying = Subscriber::start(mqtt, FORMAT, &[&own[..], &will].concat())?;
            dying.kill()?;
            expected.push(format!("{topic}|1|0|gone"));
            ensure!(watching.messages(expected.len())? == expected, "{watching:?}");
            let late = Subscriber::start(mqtt, FORMAT, &["-q", "1", "-t", &topic])?;
            ensure!(late.messages(1)? == [format!("{topic}|1|1|gone")], "{late:?}");
            // A goodbye leaves no will.
            let polite = ["-V", version, "-i", "polite", "-t", "nothing", "-m", "x"];
            publish_well(mqtt, &[&polite[..], &will].concat())?;
        }
        publish_well(mqtt, &["-t", "will/end", "-m", "x"])?;
        expected.push("will/end|1|0|x".into());
        ensure!(watching.messages(expected.len())? == expected, "{watching:?}");
        wait_until_delivered(&mut process, PATIENCE)?;
        let records = read_topic(process.address("kafka")?, "telemetry")?;
        for version in VERSIONS {
            let wills = records.iter().filter(|record| record.key_text() == version);
            let wills: Vec<String> = wills.map(e2e::Record::value_text).collect();
            ensure!(wills == ["gone"], "the log has {wills:?} of {version}");
        }
        Ok(())
    });
}

#[test]
fn a_takeover_publishes_the_will_of_the_old_connection() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (_process, mqtt) = start(stage)?;
        let watching = Subscriber::start(mqtt, FORMAT, &["-q", "1", "-t", "taken/+"])?;
        for (version, topic) in [(Version::V5, "taken/5"), (Version::V311, "taken/311")] {
            let before = watching.received()?.len();
            let mut first = Client::open_raw(mqtt, version)?;
            let connect = Connect { version, client_id: "dev1", will_topic: Some(topic) };
            first.send(&connect_packet(&connect))?;
            let packet = first.receive(PATIENCE)?;
            ensure!(packet == Some(Packet::Connack { reason: 0 }), "{packet:?}");
            let _second = Client::open(mqtt, version, "dev1")?;
            // The second is let in after the will, so the will is out already.
            let received = watching.messages(before + 1)?;
            ensure!(received[before] == format!("{topic}|0|0|"), "{received:?}");
        }
        Ok(())
    });
}

#[test]
fn a_session_is_kept_for_a_client_that_is_away() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let http = process.address("http")?;
        for (number, version) in VERSIONS.into_iter().enumerate() {
            let own = ["-V", version, "-i", version, "-c", "-q", "2", "-t", "kept/#"];
            let expiry: &[&str] = if version == "5" { &["-x", "3600"] } else { &[] };
            let arguments = [&own[..], expiry].concat();
            let mut keeper = Subscriber::start(mqtt, FORMAT, &arguments)?;
            publish_well(mqtt, &["-q", "2", "-t", "kept/0", "-m", "present"])?;
            ensure!(keeper.messages(1)? == ["kept/0|2|0|present"], "{keeper:?}");
            keeper.kill()?;
            until("the connection to be seen gone", PATIENCE, || {
                let open = metric(http, "culvert_gateway_mqtt_connections")?;
                Ok((open == 0.0).then_some(()))
            })?;
            for (qos, payload) in [("1", "first"), ("0", "lost"), ("2", "exact"), ("1", "last")] {
                publish_well(mqtt, &["-q", qos, "-t", "kept/1", "-m", payload])?;
            }
            let waiting = until("the queue", PATIENCE, || {
                let queued = metric(http, "culvert_gateway_mqtt_queued_messages")?;
                Ok((queued > 2.0).then_some(queued))
            })?;
            // The other version's session gets them too.
            ensure!(waiting == 3.0 || number > 0, "{waiting} messages wait");
            let back = Subscriber::start(mqtt, FORMAT, &arguments)?;
            let mut received = back.messages(3)?;
            // The program keeps a message of QoS 2 to itself until it is released.
            received.sort();
            let expected = ["kept/1|1|0|first", "kept/1|1|0|last", "kept/1|2|0|exact"];
            ensure!(received == expected, "{version}: {received:?}");
        }
        Ok(())
    });
}

/// Messages of every quality of service from one client to another; MQTT 5 also by its subscription options.
const PAHO_PROGRAM: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

host, port, version = sys.argv[1], int(sys.argv[2]), sys.argv[3]
five = version == "5"
COUNT = 300

def client(name):
    protocol = mqtt.MQTTv5 if five else mqtt.MQTTv311
    made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name + version, protocol=protocol)
    made.max_inflight_messages_set(40)
    made.got = []
    made.done = threading.Event()
    made.subscribed = threading.Event()
    def on_message(_, __, message):
        made.got.append(message)
        if message.payload == b"end":
            made.done.set()
    made.on_message = on_message
    made.on_subscribe = lambda *_: made.subscribed.set()
    made.connect(host, port)
    made.loop_start()
    return made

def subscribe(subscriber, *arguments, **named):
    subscriber.subscribed.clear()
    subscriber.subscribe(*arguments, **named)
    assert subscriber.subscribed.wait(30), "no SUBACK"

subscriber, publisher = client("sub"), client("pub")
subscribe(subscriber, "flow/#", 2)
sent = [publisher.publish("flow/%d" % qos, "%d" % number, qos=qos)
        for number in range(COUNT) for qos in (0, 1, 2)]
for message in sent:
    message.wait_for_publish(30)
    assert message.is_published(), "not acknowledged"
# Last of QoS 2, which clients hold back until it is released.
publisher.publish("flow/end", "end", qos=2).wait_for_publish(30)
assert subscriber.done.wait(30), "only %d messages" % len(subscriber.got)
for qos in (0, 1, 2):
    got = [int(message.payload) for message in subscriber.got if message.topic == "flow/%d" % qos]
    assert got == list(range(COUNT)), "QoS %d: %r" % (qos, got)
    assert all(m.qos == qos for m in subscriber.got if m.topic == "flow/%d" % qos), "another QoS"

if five:
    both = client("both")
    identified = Properties(PacketTypes.SUBSCRIBE)
    identified.SubscriptionIdentifier = 7
    options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
    subscribe(both, "five/+", options=options, properties=identified)
    identified = Properties(PacketTypes.SUBSCRIBE)
    identified.SubscriptionIdentifier = 300
    subscribe(both, "five/a", options=SubscribeOptions(qos=0), properties=identified)
    both.publish("five/b", "own", qos=1).wait_for_publish(30)
    said = Properties(PacketTypes.PUBLISH)
    said.UserProperty = [("unit", "K"), ("unit", "C")]
    said.ContentType = "text/plain"
    said.MessageExpiryInterval = 100
    publisher.publish("five/a", "other", qos=1, retain=True, properties=said).wait_for_publish(30)
    publisher.publish("five/b", "end", qos=1).wait_for_publish(30)
    assert both.done.wait(30), "no end"
    payloads = [message.payload for message in both.got]
    assert payloads == [b"other", b"end"], payloads
    other = both.got[0]
    assert other.retain and other.qos == 1, (other.retain, other.qos)
    assert sorted(other.properties.SubscriptionIdentifier) == [7, 300], other.properties
    assert other.properties.UserProperty == [("unit", "K"), ("unit", "C")], other.properties
    assert other.properties.ContentType == "text/plain", other.properties
    assert 0 < other.properties.MessageExpiryInterval <= 100, other.properties
    both.disconnect()
subscriber.disconnect()
publisher.disconnect()
print("all well")
"#;

#[test]
fn paho_gets_every_message_once_and_in_order() {
    scenario(&[Tool::Paho], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let python = Settings::python().context("no Python")?;
        for version in VERSIONS {
            let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
            let arguments = ["-c", PAHO_PROGRAM, &host, &port, version];
            let output = run_tool(&python, &arguments, PATIENCE)?;
            let printed = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(printed.trim() == "all well", "{version}: {printed} {complaint}");
        }
        process.check_running()
    });
}

/// A subscriber that reads nothing loses messages of its own; publishers and other subscribers do not notice.
#[test]
fn a_stuck_subscriber_holds_up_nobody() {
    scenario(&[Tool::Mosquitto], |stage| {
        let (mut process, mqtt) = start(stage)?;
        let http = process.address("http")?;
        let healthy = Subscriber::start(mqtt, "%l", &["-q", "1", "-t", "t"])?;
        let mut stuck = Client::open(mqtt, Version::V311, "stuck")?;
        stuck.send(b"\x82\x06\x00\x01\x00\x01t\x00")?;
        ensure!(stuck.receive(PATIENCE)? == Some(Packet::Other(0x90)), "no SUBACK");
        let mut publisher = Client::open(mqtt, Version::V5, "pub")?;
        let payload = vec![b'x'; 64 << 10];
        let mut published = 0;
        let dropped = "culvert_gateway_mqtt_forwards_dropped_total{reason=\"full\"}";
        until("the stuck subscriber's queue to be full", PATIENCE, || {
            for _ in 0..20 {
                publisher.publish("t", &payload)?;
                published += 1;
            }
            Ok(metric(http, dropped).ok().filter(|count| *count > 0.0))
        })?;
        ensure!(healthy.messages(published)?.len() == published, "{published} published");
        until("the stuck subscriber to be cut off", PATIENCE, || {
            let sessions = metric(http, "culvert_gateway_mqtt_sessions")?;
            Ok((sessions == 2.0).then_some(()))
        })?;
        ensure!(
            metric(http, "culvert_gateway_mqtt_queued_bytes")? == 0.0,
            "its queue is still there"
        );
        publisher.publish("t", b"after")?;
        ensure!(healthy.messages(published + 1)?.len() == published + 1, "it was held up");
        process.check_running()
    });
}
