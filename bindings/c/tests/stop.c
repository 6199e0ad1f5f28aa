// Stops while ten threads send and callbacks run, a hundred times in a row, or as often as the argument says.
#include "check.h"

#include <stdatomic.h>

enum { SENDERS = 10, STOPPERS = 3 };

typedef struct {
    axt_context *context;
    axt_transport sending, receiving;
    axt_peer peer;
    gate received;
    // Whether a call to stop the receiving transport has returned.
    atomic_bool stopped;
    axt_stop_report reports[STOPPERS];
    uint64_t drain_ms;
} shared;

static void receive(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    shared *shared = user;
    (void)group, (void)sender, (void)bytes, (void)len;
    CHECK(!atomic_load(&shared->stopped));
    GIVES(AXT_IN_CALLBACK, axt_stop(shared->context, shared->receiving, 0, NULL, &error));
    GIVES(AXT_IN_CALLBACK, axt_stop(shared->context, shared->sending, 0, NULL, &error));
    gate_add(&shared->received, 1);
    CHECK(!atomic_load(&shared->stopped));
}

// Sends on three lanes, with and without waiting, until the transport has stopped.
static void *keep_sending(void *arg) {
    shared *shared = arg;
    char bytes[600] = {0};
    for (uint32_t i = 0;; i++) {
        axt_send_options options = {.lane = i % 3, .ttl_ms = i % 2 ? 5000 : 0};
        axt_code code;
        if (i % 5 == 0)
            code = axt_send(shared->context, shared->peer, i % 4, bytes, i % sizeof bytes, &options, 1000, &error);
        else if (i % 7 == 0)
            code = axt_send_datagram(shared->context, shared->peer, i % 4, bytes, i % sizeof bytes, &error);
        else
            code = axt_try_send(shared->context, shared->peer, i % 4, bytes, i % sizeof bytes, &options, &error);
        if (code == AXT_STOPPED || code == AXT_BAD_HANDLE) return NULL;
        CHECK(code == AXT_OK || code == AXT_FULL || code == AXT_TIMEOUT);
    }
}

typedef struct {
    shared *shared;
    axt_transport transport;
    axt_stop_report *report;
} stopper;

static void *stop(void *arg) {
    stopper *stopper = arg;
    OK(axt_stop(stopper->shared->context, stopper->transport, stopper->shared->drain_ms, stopper->report, &error));
    return NULL;
}

static void stop_by_several(shared *shared, axt_transport transport) {
    pthread_t threads[STOPPERS];
    stopper stoppers[STOPPERS];
    for (int i = 0; i < STOPPERS; i++) {
        stoppers[i] = (stopper){shared, transport, &shared->reports[i]};
        CHECK(pthread_create(&threads[i], NULL, stop, &stoppers[i]) == 0);
    }
    for (int i = 0; i < STOPPERS; i++) pthread_join(threads[i], NULL);
    for (int i = 1; i < STOPPERS; i++)
        CHECK(memcmp(&shared->reports[0], &shared->reports[i], sizeof shared->reports[0]) == 0);
}

static void stop_amid_everything(int round) {
    shared shared = {.received = GATE, .drain_ms = round % 3 == 0 ? 20 : 0};
    pthread_t senders[SENDERS];
    char address[64];
    axt_stats stats;
    axt_context *context = shared.context = new_context();
    OK(axt_transport_new(context, no_config, &shared.receiving, &error));
    OK(axt_transport_new(context, no_config, &shared.sending, &error));
    OK(axt_register(context, shared.receiving, 1, receive, &shared, 1, &error));
    OK(axt_register(context, shared.receiving, 2, receive, &shared, 2, &error));
    OK(axt_register_all(context, shared.receiving, receive, &shared, 4, &error));
    bind_somewhere(context, shared.receiving, address);
    OK(axt_bind(context, shared.sending, "127.0.0.1:0", &error));
    OK(axt_peer_get(context, shared.sending, address, &shared.peer, &error));
    for (int i = 0; i < SENDERS; i++) CHECK(pthread_create(&senders[i], NULL, keep_sending, &shared) == 0);
    gate_wait(&shared.received, 100 + round);
    // Now one side first, now the other.
    if (round % 2 == 0) {
        stop_by_several(&shared, shared.receiving);
        atomic_store(&shared.stopped, true);
        stop_by_several(&shared, shared.sending);
    } else {
        stop_by_several(&shared, shared.sending);
        stop_by_several(&shared, shared.receiving);
        atomic_store(&shared.stopped, true);
    }
    // A round in four ends the handles while the senders may still use them.
    if (round % 4 == 0) OK(axt_transport_free(context, shared.sending, &error));
    for (int i = 0; i < SENDERS; i++) pthread_join(senders[i], NULL);
    OK(axt_stats_get(context, shared.receiving, &stats, &error));
    CHECK(stats.received.frames == stats.delivered.frames + stats.undelivered.frames);
    CHECK(stats.in_delivery.frames == 0);
    OK(axt_context_free(context, &error));
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 100;
    for (int round = 0; round < rounds; round++) stop_amid_everything(round);
    printf("stopped %d times\n", rounds);
    return 0;
}
