// A callback that blocks. It blocks until it is released, so the test takes no time.
#include "check.h"

#include <stdatomic.h>

enum { OTHERS = 200 };

typedef struct {
    gate blocked, release, behind, others;
    long next;
} slow;

#define SLOW {GATE, GATE, GATE, GATE, 0}

// The first byte says what to do: block, come behind what blocks, or be counted.
static void handle(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    slow *slow = user;
    (void)group, (void)sender, (void)len;
    if (bytes[0] == 'b') {
        gate_add(&slow->blocked, 1);
        gate_wait(&slow->release, 1);
    } else if (bytes[0] == 'n') {
        // Those of one connection come in order, although there are several threads.
        long number;
        memcpy(&number, bytes + 1, sizeof number);
        // The lock is for the sanitizer, which does not see that the calls come one after another.
        pthread_mutex_lock(&slow->behind.lock);
        CHECK(slow->next == number);
        slow->next++;
        pthread_mutex_unlock(&slow->behind.lock);
        gate_add(&slow->behind, 1);
    } else {
        gate_add(&slow->others, 1);
    }
}

typedef struct {
    axt_context *context;
    axt_transport transport;
    atomic_bool has_stopped;
} stopping;

static void *stop(void *arg) {
    stopping *stopping = arg;
    OK(axt_stop(stopping->context, stopping->transport, 0, NULL, &error));
    atomic_store(&stopping->has_stopped, true);
    return NULL;
}

static void send_numbers(axt_context *context, axt_peer peer, uint32_t group, long from, long to) {
    for (long number = from; number < to; number++) {
        char bytes[1 + sizeof number] = "n";
        memcpy(bytes + 1, &number, sizeof number);
        OK(axt_send(context, peer, group, bytes, sizeof bytes, NULL, 5000, &error));
    }
}

static void only_its_own_connection_waits(void) {
    slow slow = SLOW;
    char address[64];
    axt_transport server, client, other;
    axt_peer peer, other_peer;
    axt_send_options lane = {.lane = 1};
    axt_context *context = new_context();
    OK(axt_transport_new(context, no_config, &server, &error));
    OK(axt_transport_new(context, no_config, &client, &error));
    OK(axt_transport_new(context, no_config, &other, &error));
    OK(axt_register_all(context, server, handle, &slow, 4, &error));
    bind_somewhere(context, server, address);
    OK(axt_bind(context, client, "127.0.0.1:0", &error));
    OK(axt_bind(context, other, "127.0.0.1:0", &error));
    OK(axt_peer_get(context, client, address, &peer, &error));
    OK(axt_peer_get(context, other, address, &other_peer, &error));
    OK(axt_send(context, peer, 1, "b", 1, NULL, 5000, &error));
    gate_wait(&slow.blocked, 1);
    send_numbers(context, peer, 1, 0, OTHERS);
    // Another lane of the same node, the same group and another one; and another node.
    for (int i = 0; i < OTHERS; i++) {
        OK(axt_send(context, peer, 1 + i % 2, "o", 1, &lane, 5000, &error));
        OK(axt_send(context, other_peer, 1 + i % 2, "o", 1, NULL, 5000, &error));
    }
    gate_wait(&slow.others, 2 * OTHERS);
    CHECK(gate_count(&slow.behind) == 0);
    gate_add(&slow.release, 1);
    gate_wait(&slow.behind, OTHERS);
    OK(axt_context_free(context, &error));
}

static void a_registration_with_one_thread_delays_no_other(void) {
    slow slow = SLOW, quick = SLOW;
    char address[64];
    axt_transport server, client;
    axt_peer peer;
    axt_send_options lane = {.lane = 1};
    stopping stopping = {0};
    pthread_t stopper;
    axt_context *context = new_context();
    OK(axt_transport_new(context, no_config, &server, &error));
    OK(axt_transport_new(context, no_config, &client, &error));
    OK(axt_register(context, server, 1, handle, &slow, 1, &error));
    OK(axt_register(context, server, 2, handle, &quick, 1, &error));
    bind_somewhere(context, server, address);
    OK(axt_bind(context, client, "127.0.0.1:0", &error));
    OK(axt_peer_get(context, client, address, &peer, &error));
    OK(axt_send(context, peer, 1, "b", 1, NULL, 5000, &error));
    gate_wait(&slow.blocked, 1);
    for (int i = 0; i < OTHERS; i++) OK(axt_send(context, peer, 2, "o", 1, &lane, 5000, &error));
    gate_wait(&quick.others, OTHERS);
    // To stop means to wait for the callback.
    stopping.context = context, stopping.transport = server;
    CHECK(pthread_create(&stopper, NULL, stop, &stopping) == 0);
    axt_code code;
    while ((code = axt_register(context, server, 3, handle, &slow, 1, &error)) != AXT_STOPPED) {
        CHECK(code == AXT_OK || code == AXT_GROUP_TAKEN); // Taken by the call before.
        moment();
    }
    for (int i = 0; i < 50; i++) moment();
    CHECK(!atomic_load(&stopping.has_stopped));
    gate_add(&slow.release, 1);
    pthread_join(stopper, NULL);
    CHECK(gate_count(&slow.blocked) == 1);
    OK(axt_context_free(context, &error));
}

typedef struct {
    axt_context *context;
    axt_transport receiving;
    gate first, go_on, begun;
} batch;

// The first message waits, so that the others are read together. Each of the others takes a moment.
static void take_a_moment(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    batch *batch = user;
    (void)group, (void)sender, (void)len;
    if (bytes[0] == 'b') {
        gate_add(&batch->first, 1);
        gate_wait(&batch->go_on, 1);
        return;
    }
    // Read before the lock, for the sanitizer.
    axt_context *context = batch->context;
    axt_transport receiving = batch->receiving;
    axt_peer peer;
    gate_add(&batch->begun, 1);
    // Until the transport stops.
    while (gate_count(&batch->begun) == 1) {
        axt_code code = axt_peer_get(context, receiving, "127.0.0.1:1", &peer, &error);
        if (code == AXT_OK) code = axt_try_send(context, peer, 1, "a", 1, NULL, &error);
        if (code == AXT_STOPPED) break;
        CHECK(code == AXT_OK || code == AXT_FULL);
        moment();
    }
    moment();
}

// With so many threads, stopped with this limit: most of the messages are not handled.
static void stop_waits_for_a_call_and_not_for_its_batch(uint32_t threads, uint64_t drain_ms) {
    enum { MESSAGES = 2000 };
    batch batch = {.first = GATE, .go_on = GATE, .begun = GATE};
    char address[64];
    axt_transport client;
    axt_peer peer;
    axt_stats stats;
    axt_context *context = batch.context = new_context();
    OK(axt_transport_new(context, no_config, &batch.receiving, &error));
    OK(axt_transport_new(context, no_config, &client, &error));
    OK(axt_register_all(context, batch.receiving, take_a_moment, &batch, threads, &error));
    bind_somewhere(context, batch.receiving, address);
    OK(axt_bind(context, client, "127.0.0.1:0", &error));
    OK(axt_peer_get(context, client, address, &peer, &error));
    OK(axt_send(context, peer, 1, "b", 1, NULL, 5000, &error));
    gate_wait(&batch.first, 1);
    axt_send_options patient = {.ttl_ms = 120000}; // On a busy machine they may wait for long.
    for (int i = 0; i < MESSAGES; i++) OK(axt_send(context, peer, 1, "a", 1, &patient, 5000, &error));
    for (;; moment()) {
        OK(axt_stats_get(context, client, &stats, &error));
        CHECK(stats.tcp.dropped.frames == 0);
        if (stats.tcp.written.frames == 1 + MESSAGES) break;
    }
    gate_add(&batch.go_on, 1);
    gate_wait(&batch.begun, 1);
    OK(axt_stop(context, batch.receiving, drain_ms, NULL, &error));
    // A call that goes on takes a moment, and some 200 messages were read together.
    CHECK(gate_count(&batch.begun) < 100);
    OK(axt_stats_get(context, batch.receiving, &stats, &error));
    CHECK(stats.received.frames == stats.delivered.frames + stats.undelivered.frames);
    CHECK(stats.in_delivery.frames == 0);
    OK(axt_context_free(context, &error));
}

int main(void) {
    for (uint32_t threads = 0; threads < 3; threads++)
        for (uint64_t drain_ms = 0; drain_ms <= 20; drain_ms += 20)
            stop_waits_for_a_call_and_not_for_its_batch(threads, drain_ms);
    only_its_own_connection_waits();
    a_registration_with_one_thread_delays_no_other();
    return 0;
}
