"""Confluent's Kafka client as the end-to-end tests drive it: librdkafka, which a single broker that goes away does not end.

    kafka_client.py produce BROKER TOPIC    each line of the input, idempotently; prints "VALUE PARTITION OFFSET" for each
                                            that is acknowledged, and ends with the input once all are
    kafka_client.py delete BROKER TOPIC     deletes the topic
    kafka_client.py drain BROKER TOPIC...   reads everything; prints "TOPIC PARTITION OFFSET VALUE-UP-TO-A-COLON" for each record
                                            and "stuck TOPIC PARTITION NEXT-OFFSET END-OFFSET" for a partition whose end it
                                            does not reach
    kafka_client.py fill BROKER TOPIC FROM COUNT
                                            records with the numbers FROM and on, each a number, a colon and 10 kB of filler,
                                            one at a time and without a second try; prints "FIRST-FREE-NUMBER ERROR", the
                                            error that the first one met which was refused, or "-"
    kafka_client.py topics BROKER           makes, describes and deletes a topic; prints what it is told
"""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

TIMEOUT_S = 60

# A reader that gets nothing for so long gets nothing more.
STUCK_S = 4


def produce(broker, topic):
    failed = []

    def delivered(error, message):
        if error is not None:
            failed.append(error)
            print(f"{message.value().decode()}: {error}", file=sys.stderr)
            return
        value = message.value().decode()
        print(value, message.partition(), message.offset(), flush=True)

    producer = Producer({
        "bootstrap.servers": broker,
        "enable.idempotence": True,
        # Small batches, five requests in flight, and quick to come back.
        "batch.num.messages": 20,
        "linger.ms": 2,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 100,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        "message.timeout.ms": 120_000,
    })
    for line in sys.stdin:
        producer.produce(topic, value=line.rstrip("\n"), on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(2 * TIMEOUT_S)
    return 1 if failed or left else 0


def fill(broker, topic, first, count):
    producer = Producer({
        "bootstrap.servers": broker,
        "acks": "all",
        "linger.ms": 0,
        "retries": 0,
        "message.timeout.ms": 20_000,
    })
    errors = []

    def delivered(error, _message):
        if error is not None:
            errors.append(error.name())

    number = int(first)
    end = number + int(count)
    while number < end:
        producer.produce(topic, f"{number}:" + "z" * 10_000, on_delivery=delivered)
        producer.flush(TIMEOUT_S)
        if errors:
            break
        number += 1
    print(number, *errors or "-")
    return 0


def drain(broker, *names):
    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": "drain",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "enable.partition.eof": False,
        "fetch.wait.max.ms": 20,
        "fetch.error.backoff.ms": 20,
    })
    left = {}
    known = consumer.list_topics(timeout=TIMEOUT_S).topics
    places = [TopicPartition(name, index) for name in names for index in known[name].partitions]
    for place in places:
        place.offset, end = consumer.get_watermark_offsets(place, TIMEOUT_S)
        if place.offset < end:
            left[place.topic, place.partition] = [place.offset, end]
    consumer.assign(places)
    deadline = time.monotonic() + STUCK_S
    while left and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.1):
            place = message.topic(), message.partition()
            if message.error() is not None:
                if message.error().code() == KafkaError.INVALID_MSG and place in left:
                    print("stuck", *place, *left.pop(place))
                continue
            value = (message.value() or b"").split(b":", 1)[0].decode()
            print(*place, message.offset(), value)
            deadline = time.monotonic() + STUCK_S
            if place in left:
                left[place][0] = message.offset() + 1
                if left[place][0] >= left[place][1]:
                    del left[place]
    for (topic, partition), (offset, end) in sorted(left.items()):
        print("stuck", topic, partition, offset, end)
    return 0


def delete(broker, topic):
    # The futures die with the client, so it has a name.
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.delete_topics([topic]).values():
        future.result(TIMEOUT_S)
    return 0


def topics(broker):
    admin = AdminClient({"bootstrap.servers": broker})
    resource = ConfigResource(ResourceType.TOPIC, "made")

    def done(what, futures):
        for future in futures.values():
            try:
                future.result(TIMEOUT_S)
                print(what, "done")
            except KafkaException as error:
                print(what, error.args[0].name())

    made = NewTopic("made", 3, 3, config={"cleanup.policy": "compact"})
    done("create", admin.create_topics([made]))
    done("create", admin.create_topics([made]))
    done("create", admin.create_topics([NewTopic("odd", 1, 1, config={"colour": "blue"})]))
    configs = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    for name in ["cleanup.policy", "retention.ms", "max.message.bytes"]:
        print(name, configs[name].value, configs[name].is_default)
    print("partitions", len(admin.list_topics("made", TIMEOUT_S).topics["made"].partitions))
    done("delete", admin.delete_topics(["made"]))
    done("delete", admin.delete_topics(["made"]))
    done("delete", admin.delete_topics(["culvert.gateways"]))
    return 0


if __name__ == "__main__":
    commands = {"delete": delete, "drain": drain, "fill": fill, "produce": produce, "topics": topics}
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
