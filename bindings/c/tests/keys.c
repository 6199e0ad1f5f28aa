// Nodes with keys: who has a certificate with an allowed name gets in, and who has another does not.
#include "check.h"

static axt_context *context;
static const char *keys;

static const char *file(char name[256], const char *node, const char *kind) {
    snprintf(name, 256, "%s/%s%s", keys, node, kind);
    return name;
}

static axt_transport node(uint64_t number, const char *name, const char *const *allowed, size_t count) {
    char ca[256], certificate[256], key[256];
    axt_transport transport;
    OK(axt_transport_new(context, no_config, &transport, &error));
    OK(axt_identity(context, transport, number, "keys", NULL, &error));
    OK(axt_tls(context, transport, file(ca, "ca", ".pem"), file(certificate, name, ".pem"), file(key, name, ".key"),
               allowed, count, &error));
    return transport;
}

static void on_event(void *user, const axt_event *event) {
    if (event->kind == AXT_EVENT_UNREACHABLE || event->kind == AXT_EVENT_DOWN) gate_add(user, 1);
}

int main(int count, char **args) {
    const char *allowed[] = {"node-*.test"};
    char address[64], other[64];
    gate received = GATE, turned_away = GATE;
    axt_peer peer;
    axt_stats stats;
    CHECK(count == 2);
    keys = args[1];
    context = new_context();

    axt_transport server = node(1, "node-1", allowed, 1);
    OK(axt_register_all(context, server, count_message, &received, 1, &error));
    bind_somewhere(context, server, address);

    axt_transport client = node(2, "node-2", allowed, 1);
    OK(axt_meant(context, client, 1, address, &error));
    bind_somewhere(context, client, other);
    OK(axt_peer_get(context, client, address, &peer, &error));
    OK(axt_send(context, peer, 3, "hello", 5, NULL, 5000, &error));
    gate_wait(&received, 1);

    // It accepts the server, which does not accept it.
    axt_transport stranger = node(3, "other-3", allowed, 1);
    OK(axt_meant(context, stranger, 1, address, &error));
    OK(axt_subscribe(context, stranger, on_event, &turned_away, &error));
    bind_somewhere(context, stranger, other);
    OK(axt_peer_get(context, stranger, address, &peer, &error));
    OK(axt_try_send(context, peer, 3, "let me in", 9, NULL, &error));
    gate_wait(&turned_away, 1);
    OK(axt_stop(context, stranger, 0, NULL, &error));
    OK(axt_stop(context, client, 5000, NULL, &error));
    OK(axt_stop(context, server, 5000, NULL, &error));
    OK(axt_stats_get(context, server, &stats, &error));
    CHECK(stats.received.frames == 1);

    // Nobody is let in without a word.
    axt_transport open = node(4, "node-2", NULL, 0);
    GIVES(AXT_TLS, axt_bind(context, open, "127.0.0.1:0", &error));
    GIVES(AXT_NULL, axt_tls(context, open, "a", "b", "c", NULL, 1, &error));
    OK(axt_context_free(context, &error));
    return 0;
}
