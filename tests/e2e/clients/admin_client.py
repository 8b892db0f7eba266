"""Confluent's Kafka administrator as the end-to-end tests drive it. Prints "done" or the error's name.

    admin_client.py create BROKER TOPIC PARTITIONS [CONFIG=VALUE ...]
    admin_client.py set BROKER TOPIC CONFIG=VALUE ...
    admin_client.py partitions BROKER TOPIC COUNT
    admin_client.py delete-records BROKER TOPIC PARTITION OFFSET    then prints the low watermark
    admin_client.py describe BROKER TOPIC CONFIG ...                prints the value of each instead
"""

import sys

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType,
)

TIMEOUT_S = 60


def pairs(texts):
    return dict(text.split("=", 1) for text in texts)


def create(admin, topic, partitions, *configs):
    made = NewTopic(topic, int(partitions), 1, config=pairs(configs))
    return admin.create_topics([made])[topic]


def set_configs(admin, topic, *configs):
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in pairs(configs).items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    return admin.incremental_alter_configs([resource])[resource]


def partitions(admin, topic, count):
    return admin.create_partitions([NewPartitions(topic, int(count))])[topic]


def delete_records(admin, topic, partition, offset):
    asked = TopicPartition(topic, int(partition), int(offset))
    return list(admin.delete_records([asked]).values())[0]


def describe(admin, topic, *names):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    configs = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    for name in names:
        print(configs[name].value)


def main(command, broker, *arguments):
    admin = AdminClient({"bootstrap.servers": broker})
    if command == "describe":
        return describe(admin, *arguments)
    calls = {
        "create": create,
        "delete-records": delete_records,
        "partitions": partitions,
        "set": set_configs,
    }
    try:
        result = calls[command](admin, *arguments).result(TIMEOUT_S)
        print("done")
        if result is not None and hasattr(result, "low_watermark"):
            print(result.low_watermark)
    except KafkaException as error:
        print(error.args[0].name())


if __name__ == "__main__":
    main(*sys.argv[1:])
