"""Numbered records into several topics, and a ledger of what was acknowledged, for tests that kill the broker.

    storage_load.py BROKER TOPIC...    TOPIC is NAME:PARTITIONS:KEYS[:CONFIG=VALUE]...; makes the topics, then produces to all
                                       of them, idempotently, until the input ends; KEYS is 0 for records without a key.
                                       Prints "TOPIC PARTITION OFFSET NUMBER" for each record that is acknowledged, and ends
                                       once all are.

A record's value is its number in the topic, a colon, and filler. Number n of a topic with p partitions and k keys goes to
partition n % p, and has the key (n // p) % k.
"""

import select
import sys
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_S = 60
BURST = 40
PAUSE_S = 0.01
FILLER = "x" * 1500


class Topic:
    def __init__(self, text):
        name, partitions, keys, *configs = text.split(":")
        self.name = name
        self.partitions = int(partitions)
        self.keys = int(keys)
        self.configs = dict(config.split("=", 1) for config in configs)
        self.number = 0

    def next_record(self):
        number = self.number
        self.number += 1
        key = f"key-{number // self.partitions % self.keys}" if self.keys else None
        # From tens of bytes to more than a kilobyte, so that batches, runs and slots are of all sizes.
        value = f"{number}:" + FILLER[: number * 7919 % 1500]
        return number, number % self.partitions, key, value


def make(broker, topics):
    # The futures die with the client, so it has a name.
    admin = AdminClient({"bootstrap.servers": broker})
    new = [NewTopic(topic.name, topic.partitions, 1, config=topic.configs) for topic in topics]
    for future in admin.create_topics(new).values():
        future.result(TIMEOUT_S)


def offer(producer, record, report):
    while True:
        try:
            return producer.produce(*record, on_delivery=report)
        except BufferError:
            # The broker is away.
            producer.poll(0.01)


def main(broker, *texts):
    topics = [Topic(text) for text in texts]
    make(broker, topics)
    failed = []
    producer = Producer({
        "bootstrap.servers": broker,
        "enable.idempotence": True,
        # Small batches, five requests in flight, and quick to come back.
        "batch.num.messages": 50,
        "linger.ms": 2,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 100,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        "topic.metadata.refresh.fast.interval.ms": 50,
        "message.timeout.ms": 600_000,
        "queue.buffering.max.messages": 20_000,
    })

    def delivered(topic, number):
        def report(error, message):
            if error is not None:
                failed.append(error)
                print(f"{topic.name} {number}: {error}", file=sys.stderr, flush=True)
                return
            print(topic.name, message.partition(), message.offset(), number)

        return report

    while not select.select([sys.stdin], [], [], 0)[0]:
        for topic in topics:
            for _ in range(BURST // len(topics) + 1):
                number, partition, key, value = topic.next_record()
                offer(producer, (topic.name, value, key, partition), delivered(topic, number))
        producer.poll(0)
        sys.stdout.flush()
        time.sleep(PAUSE_S)
    left = producer.flush(2 * TIMEOUT_S)
    return 1 if failed or left else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
