"""Confluent's Kafka client in consumer groups, as the end-to-end tests drive it.

    group_client.py consume BROKER GROUP TOPIC    until it is ended; prints "PARTITION OFFSET VALUE" for each record
    group_client.py describe BROKER GROUP         prints the group's state, and how many partitions each member has
    group_client.py offsets BROKER GROUP          prints "PARTITION OFFSET" for each committed offset
    group_client.py commit BROKER GROUP TOPIC N   commits the offsets 1 to N of partition 0, one by one
    group_client.py delete BROKER GROUP           deletes the group; prints "deleted" or the error's name
"""

import signal
import sys

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

TIMEOUT_S = 60


def consume(broker, group, topic):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": group,
        "client.id": "confluent",
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 500,
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 200,
        "partition.assignment.strategy": "range",
        "reconnect.backoff.max.ms": 200,
    })
    consumer.subscribe([topic])
    while not ended:
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error():
            print(message.error(), file=sys.stderr, flush=True)
            continue
        value = message.value().decode()
        print(message.partition(), message.offset(), value, flush=True)
    # Commits what was read, and leaves the group.
    consumer.close()


def describe(broker, group):
    admin = AdminClient({"bootstrap.servers": broker})
    found = admin.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    sizes = sorted(len(member.assignment.topic_partitions) for member in found.members)
    print(found.state.name, *sizes)


def offsets(broker, group):
    admin = AdminClient({"bootstrap.servers": broker})
    asked = [ConsumerGroupTopicPartitions(group)]
    found = admin.list_consumer_group_offsets(asked)[group].result(TIMEOUT_S)
    for partition in sorted(found.topic_partitions, key=lambda p: p.partition):
        print(partition.partition, partition.offset)


def commit(broker, group, topic, count):
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group, "enable.auto.commit": False})
    for offset in range(1, int(count) + 1):
        consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def delete(broker, group):
    admin = AdminClient({"bootstrap.servers": broker})
    try:
        admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
        print("deleted")
    except KafkaException as error:
        print(error.args[0].name())


if __name__ == "__main__":
    commands = {
        "commit": commit, "consume": consume, "describe": describe, "offsets": offsets, "delete": delete,
    }
    commands[sys.argv[1]](*sys.argv[2:])
