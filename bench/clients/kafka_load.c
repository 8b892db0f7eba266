/*
 * Load on a Kafka broker through librdkafka, in the shape of rdkafka_performance: as fast as library and broker go.
 *
 *   kafka_load create    BROKERS TOPIC PARTITIONS - [TOPIC_CONFIG=VALUE ...]
 *   kafka_load delete    BROKERS TOPIC - -
 *   kafka_load produce   BROKERS TOPIC COUNT SIZE [KEY=VALUE ...]
 *   kafka_load consume   BROKERS TOPIC COUNT PARTITIONS [KEY=VALUE ...]
 *   kafka_load roundtrip BROKERS TOPIC COUNT SIZE [KEY=VALUE ...]
 *
 * The last three print one line: records, seconds from the first call to the last acknowledgement or record, and the
 * 50th, 99th and 99.9th percentile in milliseconds: of the time from produce to acknowledgement (produce), or from
 * produce to the record's arrival at a consumer of the one partition, one record at a time (roundtrip).
 *
 * A record that is not acknowledged, or does not come within a minute, ends the program with status 1.
 */
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_SECONDS_MAX 60
#define CONSUME_BATCH 10000
/* Latencies are counted by hundredths of a millisecond, up to 20 s. */
#define LATENCY_BUCKETS 2000000
#define LATENCY_BUCKET_US 10

static uint64_t acknowledged;
static uint64_t failed;
static uint64_t latencies[LATENCY_BUCKETS];

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "kafka_load: %s: %s\n", what, why);
    exit(1);
}

static void note_latency(int64_t microseconds) {
    int64_t bucket = microseconds < 0 ? 0 : microseconds / LATENCY_BUCKET_US;
    latencies[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1]++;
}

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client;
    (void)opaque;
    if (message->err) {
        if (failed++ == 0)
            fprintf(stderr, "kafka_load: not delivered: %s\n", rd_kafka_err2str(message->err));
        return;
    }
    acknowledged++;
    note_latency(rd_kafka_message_latency(message));
}

static double latency_ms(uint64_t count, double share) {
    uint64_t rank = (uint64_t)((double)count * share), seen = 0;
    for (int bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        seen += latencies[bucket];
        if (seen > rank)
            return (double)(bucket + 1) * LATENCY_BUCKET_US / 1000.0;
    }
    return 0.0;
}

static void print(uint64_t count, double seconds) {
    printf("%llu %.6f %.2f %.2f %.2f\n", (unsigned long long)count, seconds, latency_ms(count, 0.5),
           latency_ms(count, 0.99), latency_ms(count, 0.999));
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char why[512];
    if (rd_kafka_conf_set(conf, key, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        die(key, why);
}

/* Cuts KEY=VALUE into two strings; returns the second. */
static const char *cut(char *setting) {
    char *value = strchr(setting, '=');
    if (value == NULL)
        die(setting, "not KEY=VALUE");
    *value = '\0';
    return value + 1;
}

static rd_kafka_conf_t *configure(const char *brokers) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    return conf;
}

static rd_kafka_t *start(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char why[512];
    rd_kafka_t *client = rd_kafka_new(type, conf, why, sizeof why);
    if (client == NULL)
        die("cannot start", why);
    return client;
}

static void produce(rd_kafka_conf_t *conf, const char *topic, uint64_t count, size_t size) {
    set(conf, "acks", "all");
    set(conf, "linger.ms", "5");
    set(conf, "queue.buffering.max.messages", "500000");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_t *client = start(RD_KAFKA_PRODUCER, conf);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    char *payload = malloc(size);
    memset(payload, 'R', size);
    double begun = now_seconds();
    for (uint64_t sent = 0; sent < count; sent++) {
        while (rd_kafka_produce(handle, RD_KAFKA_PARTITION_UA, 0, payload, size, NULL, 0, NULL) == -1) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                die("produce", rd_kafka_err2str(rd_kafka_last_error()));
            rd_kafka_poll(client, 10);
        }
        if (sent % 64 == 0)
            rd_kafka_poll(client, 0);
    }
    if (rd_kafka_flush(client, SILENCE_SECONDS_MAX * 1000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("produce", "records are still unacknowledged");
    double seconds = now_seconds() - begun;
    if (failed > 0 || acknowledged != count)
        die("produce", "records were not delivered");
    print(acknowledged, seconds);
    rd_kafka_topic_destroy(handle);
    rd_kafka_destroy(client);
    free(payload);
}

static void consume(rd_kafka_conf_t *conf, const char *topic, uint64_t count, int partitions) {
    static rd_kafka_message_t *batch[CONSUME_BATCH];
    set(conf, "enable.partition.eof", "false");
    rd_kafka_t *client = start(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    double begun = now_seconds(), last = begun;
    for (int partition = 0; partition < partitions; partition++)
        if (rd_kafka_consume_start_queue(handle, partition, RD_KAFKA_OFFSET_BEGINNING, queue) == -1)
            die("consume", rd_kafka_err2str(rd_kafka_last_error()));
    uint64_t received = 0;
    while (received < count) {
        ssize_t some = rd_kafka_consume_batch_queue(queue, 1000, batch, CONSUME_BATCH);
        if (some < 0)
            die("consume", rd_kafka_err2str(rd_kafka_last_error()));
        for (ssize_t i = 0; i < some; i++) {
            if (batch[i]->err)
                die("consume", rd_kafka_message_errstr(batch[i]));
            received++;
            rd_kafka_message_destroy(batch[i]);
        }
        if (some > 0)
            last = now_seconds();
        else if (now_seconds() - last > SILENCE_SECONDS_MAX)
            die("consume", "records do not come");
    }
    print(received, last - begun);
    fflush(stdout);
    /* The rest of what the library has fetched is of no interest, and destroying the client would wait for it. */
    _exit(0);
}

/* One record at a time: produced, durable, fetched. */
static void roundtrip(rd_kafka_conf_t *conf, const char *brokers, const char *topic, uint64_t count, size_t size) {
    set(conf, "acks", "all");
    set(conf, "linger.ms", "0");
    rd_kafka_t *producer = start(RD_KAFKA_PRODUCER, conf);
    rd_kafka_topic_t *out = rd_kafka_topic_new(producer, topic, NULL);
    rd_kafka_conf_t *reading = configure(brokers);
    set(reading, "fetch.wait.max.ms", "500");
    rd_kafka_t *consumer = start(RD_KAFKA_CONSUMER, reading);
    rd_kafka_topic_t *in = rd_kafka_topic_new(consumer, topic, NULL);
    if (rd_kafka_consume_start(in, 0, RD_KAFKA_OFFSET_BEGINNING) == -1)
        die("roundtrip", rd_kafka_err2str(rd_kafka_last_error()));
    char *payload = malloc(size);
    memset(payload, 'R', size);
    double begun = now_seconds();
    for (uint64_t number = 0; number < count; number++) {
        double sent = now_seconds();
        if (rd_kafka_produce(out, 0, 0, payload, size, NULL, 0, NULL) == -1)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_message_t *message = rd_kafka_consume(in, 0, SILENCE_SECONDS_MAX * 1000);
        if (message == NULL)
            die("roundtrip", "a record does not come");
        if (message->err || message->len != size)
            die("roundtrip", rd_kafka_message_errstr(message));
        note_latency((int64_t)((now_seconds() - sent) * 1e6));
        rd_kafka_message_destroy(message);
        rd_kafka_poll(producer, 0);
    }
    print(count, now_seconds() - begun);
    fflush(stdout);
    _exit(0);
}

static void wait_for(rd_kafka_queue_t *queue, rd_kafka_event_type_t type) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, SILENCE_SECONDS_MAX * 1000);
    size_t count = 0;
    const rd_kafka_topic_result_t **results = NULL;
    if (event == NULL || rd_kafka_event_type(event) != type)
        die("topic", "no answer");
    if (rd_kafka_event_error(event))
        die("topic", rd_kafka_event_error_string(event));
    if (type == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
        results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    else
        results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_topic_result_error(results[i]))
            die(rd_kafka_topic_result_name(results[i]), rd_kafka_err2str(rd_kafka_topic_result_error(results[i])));
    rd_kafka_event_destroy(event);
}

static void create(rd_kafka_conf_t *conf, const char *topic, int partitions, int config_count, char **configs) {
    char why[512];
    rd_kafka_t *client = start(RD_KAFKA_PRODUCER, conf);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, partitions, 1, why, sizeof why);
    if (new_topic == NULL)
        die(topic, why);
    for (int i = 0; i < config_count; i++) {
        const char *value = cut(configs[i]);
        rd_kafka_NewTopic_set_config(new_topic, configs[i], value);
    }
    rd_kafka_CreateTopics(client, &new_topic, 1, NULL, queue);
    wait_for(queue, RD_KAFKA_EVENT_CREATETOPICS_RESULT);
    _exit(0);
}

static void delete(rd_kafka_conf_t *conf, const char *topic) {
    rd_kafka_t *client = start(RD_KAFKA_PRODUCER, conf);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopic_t *old_topic = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_DeleteTopics(client, &old_topic, 1, NULL, queue);
    wait_for(queue, RD_KAFKA_EVENT_DELETETOPICS_RESULT);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc < 6)
        die("usage", "kafka_load create|delete|produce|consume|roundtrip BROKERS TOPIC COUNT SIZE|PARTITIONS [KEY=VALUE ...]");
    const char *what = argv[1], *brokers = argv[2], *topic = argv[3];
    uint64_t count = strtoull(argv[4], NULL, 10);
    size_t size = (size_t)strtoull(argv[5], NULL, 10);
    rd_kafka_conf_t *conf = configure(brokers);
    if (strcmp(what, "create") == 0)
        create(conf, topic, (int)count, argc - 6, argv + 6);
    if (strcmp(what, "delete") == 0)
        delete(conf, topic);
    for (int i = 6; i < argc; i++) {
        const char *value = cut(argv[i]);
        set(conf, argv[i], value);
    }
    if (strcmp(what, "produce") == 0)
        produce(conf, topic, count, size);
    else if (strcmp(what, "consume") == 0)
        consume(conf, topic, count, (int)size);
    else if (strcmp(what, "roundtrip") == 0)
        roundtrip(conf, brokers, topic, count, size);
    else
        die(what, "is nothing that this program does");
    return 0;
}
