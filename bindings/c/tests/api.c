// Every function once, and every way to call it wrongly that has an error of its own.
#include "check.h"

#include <netinet/in.h>
#include <sys/socket.h>

static axt_context *context;

static axt_transport new_transport(void) {
    axt_transport transport;
    OK(axt_transport_new(context, no_config, &transport, &error));
    return transport;
}

static axt_peer peer_at(axt_transport transport, const char *address) {
    axt_peer peer;
    OK(axt_peer_get(context, transport, address, &peer, &error));
    return peer;
}

static void every_code_has_a_text_and_other_numbers_too(void) {
    for (int code = AXT_OK; code <= AXT_FAULT; code++) CHECK(strlen(axt_error_text(code)) > 1);
    CHECK(strcmp(axt_error_text(AXT_FAULT + 1), axt_error_text(-1)) == 0);
    CHECK(strcmp(axt_error_text(AXT_FULL), "the queue is full") == 0);
}

static void null_pointers_are_errors(void) {
    axt_transport transport = new_transport();
    axt_peer peer = {0};
    axt_config config;
    axt_stats stats;
    char address[64], *json;
    GIVES(AXT_NULL, axt_context_new(NULL, NULL));
    GIVES(AXT_NULL, axt_context_new(NULL, &error));
    CHECK(error.code == AXT_NULL && strlen(error.text) > 0);
    OK(axt_context_free(NULL, &error));
    GIVES(AXT_NULL, axt_config_new(NULL, false, &config, &error));
    GIVES(AXT_NULL, axt_config_new(context, false, NULL, &error));
    GIVES(AXT_NULL, axt_config_file(context, NULL, &config, &error));
    OK(axt_config_new(context, false, &config, &error));
    GIVES(AXT_NULL, axt_config_set(context, config, NULL, "1", &error));
    GIVES(AXT_NULL, axt_config_set(context, config, "udp", NULL, &error));
    OK(axt_config_free(context, config, &error));
    GIVES(AXT_NULL, axt_transport_new(context, no_config, NULL, &error));
    GIVES(AXT_NULL, axt_meant(context, transport, 1, NULL, &error));
    GIVES(AXT_NULL, axt_tls(context, transport, NULL, "a", "b", NULL, 0, &error));
    GIVES(AXT_NULL, axt_register(context, transport, 1, NULL, NULL, 1, &error));
    GIVES(AXT_NULL, axt_register_all(context, transport, NULL, NULL, 1, &error));
    GIVES(AXT_NULL, axt_register_batches(context, transport, 1, NULL, NULL, 1, &error));
    GIVES(AXT_NULL, axt_register_all_batches(context, transport, NULL, NULL, 1, &error));
    GIVES(AXT_NULL, axt_subscribe(context, transport, NULL, NULL, &error));
    bind_somewhere(context, transport, address);
    GIVES(AXT_NULL, axt_address(context, transport, NULL, 64, &error));
    GIVES(AXT_NULL, axt_peer_get(context, transport, NULL, &peer, &error));
    GIVES(AXT_NULL, axt_peer_get(context, transport, address, NULL, &error));
    peer = peer_at(transport, address);
    GIVES(AXT_NULL, axt_try_send(context, peer, 1, NULL, 1, NULL, &error));
    GIVES(AXT_NULL, axt_try_send(NULL, peer, 1, "a", 1, NULL, &error));
    GIVES(AXT_NULL, axt_send(context, peer, 1, NULL, 1, NULL, 1000, &error));
    GIVES(AXT_NULL, axt_reply(context, NULL, 1, "a", 1, &error));
    GIVES(AXT_NULL, axt_sender_peer(context, transport, NULL, &peer, &error));
    GIVES(AXT_NULL, axt_stats_get(context, transport, NULL, &error));
    GIVES(AXT_NULL, axt_stats_json(context, transport, NULL, &error));
    GIVES(AXT_NULL, axt_stats_get(NULL, transport, &stats, NULL));
    GIVES(AXT_NULL, axt_stats_json(NULL, transport, &json, NULL));
    OK(axt_try_send(context, peer, 1, NULL, 0, NULL, NULL)); // No bytes are no error.
    axt_string_free(NULL);
    OK(axt_transport_free(context, transport, &error));
}

static void handles_after_their_end_are_errors(void) {
    char address[64], *json;
    axt_stats stats;
    axt_config config;
    axt_transport transport = new_transport(), gone = new_transport(), none = {0}, other;
    OK(axt_transport_free(context, gone, &error));
    bind_somewhere(context, transport, address);
    axt_peer peer = peer_at(transport, address), second = peer_at(transport, address), no_peer = {0};
    OK(axt_peer_free(context, peer, &error));
    GIVES(AXT_BAD_HANDLE, axt_peer_free(context, peer, &error));
    GIVES(AXT_BAD_HANDLE, axt_try_send(context, peer, 1, "a", 1, NULL, &error));
    GIVES(AXT_BAD_HANDLE, axt_send(context, peer, 1, "a", 1, NULL, 10, &error));
    GIVES(AXT_BAD_HANDLE, axt_send_datagram(context, peer, 1, "a", 1, &error));
    GIVES(AXT_BAD_HANDLE, axt_send_auto(context, peer, 1, "a", 1, &error));
    GIVES(AXT_BAD_HANDLE, axt_try_send(context, no_peer, 1, "a", 1, NULL, &error));
    axt_transport ended[2] = {gone, none};
    for (int i = 0; i < 2; i++) {
        GIVES(AXT_BAD_HANDLE, axt_bind(context, ended[i], "127.0.0.1:0", &error));
        GIVES(AXT_BAD_HANDLE, axt_identity(context, ended[i], 1, NULL, NULL, &error));
        GIVES(AXT_BAD_HANDLE, axt_meant(context, ended[i], 1, "10.0.0.1:1", &error));
        GIVES(AXT_BAD_HANDLE, axt_tls(context, ended[i], "a", "b", "c", NULL, 0, &error));
        GIVES(AXT_BAD_HANDLE, axt_register(context, ended[i], 1, ignore_message, NULL, 1, &error));
        GIVES(AXT_BAD_HANDLE, axt_address(context, ended[i], address, 64, &error));
        GIVES(AXT_BAD_HANDLE, axt_peer_get(context, ended[i], "10.0.0.1:1", &peer, &error));
        GIVES(AXT_BAD_HANDLE, axt_stats_get(context, ended[i], &stats, &error));
        GIVES(AXT_BAD_HANDLE, axt_stats_json(context, ended[i], &json, &error));
        GIVES(AXT_BAD_HANDLE, axt_stop(context, ended[i], 0, NULL, &error));
        GIVES(AXT_BAD_HANDLE, axt_transport_free(context, ended[i], &error));
    }
    OK(axt_config_new(context, false, &config, &error));
    OK(axt_config_free(context, config, &error));
    GIVES(AXT_BAD_HANDLE, axt_config_free(context, config, &error));
    GIVES(AXT_BAD_HANDLE, axt_config_set(context, config, "udp", "true", &error));
    GIVES(AXT_BAD_HANDLE, axt_transport_new(context, config, &other, &error));
    // The handle of a stopped transport is good for its counters, and its peers' handles refuse.
    OK(axt_stop(context, transport, 0, NULL, &error));
    OK(axt_stats_get(context, transport, &stats, &error));
    GIVES(AXT_STOPPED, axt_try_send(context, second, 1, "a", 1, NULL, &error));
    GIVES(AXT_STOPPED, axt_bind(context, transport, "127.0.0.1:0", &error));
    GIVES(AXT_STOPPED, axt_register(context, transport, 1, ignore_message, NULL, 1, &error));
    GIVES(AXT_STOPPED, axt_peer_get(context, transport, "10.0.0.9:1", &peer, &error));
    OK(axt_transport_free(context, transport, &error));
    GIVES(AXT_BAD_HANDLE, axt_try_send(context, second, 1, "a", 1, NULL, &error));
    // Those of another context are not known here.
    axt_context *elsewhere = new_context();
    transport = new_transport();
    GIVES(AXT_BAD_HANDLE, axt_stop(elsewhere, transport, 0, NULL, &error));
    OK(axt_context_free(elsewhere, &error));
    OK(axt_transport_free(context, transport, &error));
}

static void settings_are_set_by_name_and_errors_name_the_field(void) {
    axt_config config, large;
    axt_transport transport;
    char address[64];
    OK(axt_config_new(context, false, &config, &error));
    OK(axt_config_set(context, config, "queue_bytes", "64MiB", &error));
    OK(axt_config_set(context, config, "stale_after", "200ms", &error));
    OK(axt_config_set(context, config, "udp", "true", &error));
    OK(axt_config_set(context, config, "overflow", "drop_oldest", &error));
    OK(axt_config_set(context, config, "placement", "{ dedicated = { readers = 2 } }", &error));
    GIVES(AXT_CONFIG, axt_config_set(context, config, "queue_byts", "1", &error));
    CHECK(strstr(error.text, "queue_byts"));
    GIVES(AXT_CONFIG, axt_config_set(context, config, "stale_after", "soon", &error));
    CHECK(strstr(error.text, "stale_after") && strstr(error.text, "soon"));
    GIVES(AXT_CONFIG, axt_config_set(context, config, "placement", "{ what", &error));
    CHECK(strstr(error.text, "placement"));
    GIVES(AXT_BAD_TEXT, axt_config_set(context, config, "udp", "\xff", &error));
    OK(axt_transport_new(context, config, &transport, &error));
    bind_somewhere(context, transport, address);
    OK(axt_transport_free(context, transport, &error));
    // A value that only does not fit the others is found when the transport is bound.
    OK(axt_config_set(context, config, "queue_frames", "0", &error));
    OK(axt_transport_new(context, config, &transport, &error));
    GIVES(AXT_CONFIG, axt_bind(context, transport, "127.0.0.1:0", &error));
    CHECK(strstr(error.text, "queue_frames"));
    OK(axt_transport_free(context, transport, &error));
    OK(axt_config_set(context, config, "queue_frames", "10", &error));
    OK(axt_config_set(context, config, "placement", "current", &error));
    OK(axt_transport_new(context, config, &transport, &error));
    GIVES(AXT_CONFIG, axt_bind(context, transport, "127.0.0.1:0", &error));
    CHECK(strstr(error.text, "placement"));
    OK(axt_transport_free(context, transport, &error));
    OK(axt_config_free(context, config, &error));
    OK(axt_config_new(context, true, &large, &error));
    OK(axt_config_free(context, large, &error));
}

static axt_code read_file(const char *text, axt_config *config) {
    char path[] = "/tmp/axt-config-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    axt_code code = axt_config_file(context, path, config, &error);
    close(file), unlink(path);
    return code;
}

static void settings_are_read_from_a_file(void) {
    axt_config config;
    axt_transport transport;
    axt_peer peer;
    OK(read_file("stale_after = \"1s\"\n", &config));
    OK(axt_transport_new(context, config, &transport, &error));
    GIVES(AXT_ADDRESS, axt_bind(context, transport, NULL, &error));
    OK(axt_transport_free(context, transport, &error));
    OK(axt_config_free(context, config, &error));
    OK(read_file("listen = \"127.0.0.1:0\"\n[peers]\ntwo = \"10.0.0.2:7000\"\n[config]\nudp = false\n", &config));
    OK(axt_transport_new(context, config, &transport, &error));
    OK(axt_bind(context, transport, NULL, &error));
    OK(axt_peer_get(context, transport, "two", &peer, &error));
    GIVES(AXT_ADDRESS, axt_peer_get(context, transport, "three", &peer, &error));
    CHECK(strstr(error.text, "three"));
    GIVES(AXT_NO_DATAGRAMS, axt_send_datagram(context, peer, 1, "a", 1, &error));
    OK(axt_transport_free(context, transport, &error));
    OK(axt_config_free(context, config, &error));
    OK(read_file("[peers]\ntwo = \"10.0.0.2:7000\"\n", &config));
    OK(axt_config_free(context, config, &error));
    GIVES(AXT_CONFIG, read_file("stale_aftr = \"1s\"\n", &config));
    CHECK(strstr(error.text, "stale_aftr"));
    GIVES(AXT_CONFIG, read_file("[config]\nqueue_frames = \"many\"\n", &config));
    CHECK(strstr(error.text, "queue_frames") && strstr(error.text, "many"));
    GIVES(AXT_FILE, read_file("no toml", &config));
    GIVES(AXT_FILE, axt_config_file(context, "/nowhere/at/all.toml", &config, &error));
    CHECK(strstr(error.text, "/nowhere/at/all.toml"));
}

static void a_port_that_is_in_use_is_an_error_and_another_may_be_tried(void) {
    char address[64], other[64];
    axt_transport first = new_transport(), second = new_transport();
    GIVES(AXT_STATE, axt_address(context, first, address, 64, &error));
    bind_somewhere(context, first, address);
    GIVES(AXT_STATE, axt_bind(context, first, "127.0.0.1:0", &error));
    GIVES(AXT_STATE, axt_identity(context, first, 1, NULL, NULL, &error));
    GIVES(AXT_BAD_VALUE, axt_address(context, first, other, 5, &error));
    GIVES(AXT_IN_USE, axt_bind(context, second, address, &error));
    CHECK(strstr(error.text, address));
    GIVES(AXT_BIND, axt_bind(context, second, "203.0.113.1:1", &error));
    GIVES(AXT_BIND, axt_bind(context, second, "no address", &error));
    bind_somewhere(context, second, other);
    OK(axt_transport_free(context, first, &error));
    OK(axt_transport_free(context, second, &error));
}

static void bad_identities_keys_and_addresses_are_errors(void) {
    axt_peer peer;
    char address[64];
    axt_transport transport = new_transport();
    GIVES(AXT_TLS, axt_tls(context, transport, "/nowhere.ca", "/nowhere.cert", "/nowhere.key", NULL, 0, &error));
    CHECK(strstr(error.text, "/nowhere"));
    GIVES(AXT_ADDRESS, axt_meant(context, transport, 2, "nowhere", &error));
    OK(axt_identity(context, transport, 1, "", NULL, &error));
    GIVES(AXT_IDENTITY, axt_bind(context, transport, "127.0.0.1:0", &error));
    OK(axt_identity(context, transport, 1, "cluster", "10.0.0.1:7000", &error));
    OK(axt_meant(context, transport, 2, "10.0.0.2:7000", &error));
    bind_somewhere(context, transport, address);
    GIVES(AXT_ADDRESS, axt_peer_get(context, transport, "10.0.0.1:0", &peer, &error));
    OK(axt_transport_free(context, transport, &error));
}

static void registrations_that_cannot_be_are_errors(void) {
    char address[64];
    axt_transport transport = new_transport();
    GIVES(AXT_BAD_VALUE, axt_register(context, transport, 1, ignore_message, NULL, 257, &error));
    GIVES(AXT_GROUP_RESERVED, axt_register(context, transport, UINT32_MAX, ignore_message, NULL, 1, &error));
    OK(axt_register(context, transport, 1, ignore_message, NULL, 1, &error));
    GIVES(AXT_GROUP_TAKEN, axt_register(context, transport, 1, ignore_message, NULL, 1, &error));
    bind_somewhere(context, transport, address);
    GIVES(AXT_GROUP_TAKEN, axt_register(context, transport, 1, ignore_message, NULL, 4, &error));
    OK(axt_register_all(context, transport, ignore_message, NULL, 4, &error));
    GIVES(AXT_GROUP_TAKEN, axt_register_all(context, transport, ignore_message, NULL, 1, &error));
    OK(axt_transport_free(context, transport, &error));
}

static void sends_that_cannot_be_are_errors(void) {
    char address[64];
    axt_config config;
    axt_transport transport;
    axt_send_options far_lane = {.lane = 8};
    static char frame[4096];
    OK(axt_config_new(context, false, &config, &error));
    OK(axt_config_set(context, config, "max_frame", "1024", &error));
    OK(axt_config_set(context, config, "queue_frames", "4", &error));
    OK(axt_transport_new(context, config, &transport, &error));
    bind_somewhere(context, transport, address);
    // Nobody listens there, so its frames wait.
    axt_peer peer = peer_at(transport, "127.0.0.1:1"), named = peer_at(transport, "node-2.invalid:7000");
    GIVES(AXT_BAD_VALUE, axt_try_send(context, peer, 1, "a", 1, &far_lane, &error));
    CHECK(strstr(error.text, "8"));
    GIVES(AXT_BAD_VALUE, axt_send(context, peer, 1, "a", 1, &far_lane, 10, &error));
    GIVES(AXT_BAD_VALUE, axt_try_send(context, peer, 1, "a", SIZE_MAX, NULL, &error));
    GIVES(AXT_GROUP_RESERVED, axt_try_send(context, peer, UINT32_MAX, "a", 1, NULL, &error));
    GIVES(AXT_TOO_LARGE, axt_try_send(context, peer, 1, frame, sizeof frame, NULL, &error));
    CHECK(strstr(error.text, "4096"));
    GIVES(AXT_ADDRESS, axt_send_datagram(context, named, 1, "a", 1, &error));
    GIVES(AXT_TOO_LARGE, axt_send_datagram(context, peer, 1, frame, sizeof frame, &error));
    for (int i = 0; i < 4; i++) OK(axt_try_send(context, peer, 1, "a", 1, NULL, &error));
    GIVES(AXT_FULL, axt_try_send(context, peer, 1, "a", 1, NULL, NULL));
    GIVES(AXT_FULL, axt_try_send(context, peer, 1, "a", 1, NULL, &error));
    GIVES(AXT_TIMEOUT, axt_send(context, peer, 1, "a", 1, NULL, 20, &error));
    axt_send_options latest = {.lane = 1, .latest = 2, .key = 7, .ttl_ms = 60000};
    for (int i = 0; i < 10; i++) OK(axt_try_send(context, peer, 1, "a", 1, &latest, &error));
    axt_stop_report report;
    OK(axt_stop(context, transport, 0, &report, &error));
    CHECK(report.undelivered.frames == 5 && report.peers >= 1 && report.datagrams.frames == 0);
    OK(axt_transport_free(context, transport, &error));
    OK(axt_config_free(context, config, &error));
}

// ---- what callbacks get ----------------------------------------------------------------------------

typedef struct {
    gate calls, events;
    axt_transport transport, other;
    axt_sender kept;
    axt_peer peer;
    char from[64];
    long expected;
} server;

static void serve(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    server *server = user;
    axt_peer peer;
    CHECK(group == 3 && sender->known && sender->node == 2 && sender->incarnation > 0 && !sender->datagram);
    CHECK(strncmp(sender->from, "127.0.0.1:", 10) == 0 && sender->lane == 0);
    CHECK(len == 5 && memcmp(bytes, "hello", 5) == 0);
    GIVES(AXT_IN_CALLBACK, axt_stop(context, server->transport, 0, NULL, &error));
    GIVES(AXT_IN_CALLBACK, axt_transport_free(context, server->transport, &error));
    GIVES(AXT_IN_CALLBACK, axt_context_free(context, &error));
    GIVES(AXT_BAD_HANDLE, axt_sender_peer(context, server->other, sender, &peer, &error));
    CHECK(strstr(error.text, "another transport"));
    OK(axt_sender_peer(context, server->transport, sender, &peer, &error));
    GIVES(AXT_IN_CALLBACK, axt_send(context, peer, 4, "a", 1, NULL, 10, &error));
    OK(axt_try_send(context, peer, 4, "one", 3, NULL, &error));
    OK(axt_reply(context, sender, 4, "two", 3, &error));
    server->peer = peer;
    server->kept = *sender;
    gate_add(&server->calls, 1);
}

static void serve_batch(void *user, const axt_batch *batch) {
    server *server = user;
    CHECK(batch->group == 4 && batch->sender->known && batch->sender->node == 1 && batch->count > 0);
    for (size_t i = 0; i < batch->count; i++) {
        CHECK(batch->messages[i].len == 3);
        CHECK(memcmp(batch->messages[i].data, server->expected == 0 ? "one" : "two", 3) == 0);
        server->expected++;
    }
    gate_add(&server->calls, (long)batch->count);
}

static void on_event(void *user, const axt_event *event) {
    server *server = user;
    CHECK(event->text && strlen(event->text) > 0);
    if (event->kind == AXT_EVENT_UP && event->peer && event->lane == 0) gate_add(&server->events, 1);
}

static void messages_and_answers_arrive(void) {
    server a = {.calls = GATE, .events = GATE}, b = {.calls = GATE, .events = GATE};
    char address[64], *json;
    axt_stats stats;
    axt_peer peer;
    a.transport = new_transport(), b.transport = new_transport();
    a.other = b.transport, b.other = a.transport;
    OK(axt_identity(context, a.transport, 1, "test", NULL, &error));
    OK(axt_identity(context, b.transport, 2, "test", NULL, &error));
    OK(axt_register(context, a.transport, 3, serve, &a, 1, &error));
    OK(axt_register_batches(context, b.transport, 4, serve_batch, &b, 1, &error));
    OK(axt_subscribe(context, b.transport, on_event, &b, &error));
    bind_somewhere(context, a.transport, address);
    OK(axt_bind(context, b.transport, "127.0.0.1:0", &error));
    peer = peer_at(b.transport, address);
    OK(axt_send(context, peer, 3, "hello", 5, NULL, 5000, &error));
    gate_wait(&a.calls, 1);
    gate_wait(&b.calls, 2);
    gate_wait(&b.events, 1);
    // The sender can be answered through its handle, and not through what the callback was given.
    while (axt_reply(context, &a.kept, 4, "two", 3, &error) != AXT_BAD_HANDLE) moment();
    GIVES(AXT_BAD_HANDLE, axt_sender_peer(context, a.transport, &a.kept, &peer, &error));
    OK(axt_try_send(context, a.peer, 4, "two", 3, NULL, &error));
    while (gate_count(&b.calls) < 3) moment();
    OK(axt_stop(context, b.transport, 5000, NULL, &error));
    OK(axt_stop(context, a.transport, 5000, NULL, &error));
    OK(axt_stats_get(context, a.transport, &stats, &error));
    CHECK(stats.received.frames >= 1 && stats.received.frames == stats.delivered.frames);
    CHECK(stats.tcp.offered.frames == stats.tcp.accepted.frames && stats.in_delivery.frames == 0);
    OK(axt_stats_json(context, a.transport, &json, &error));
    CHECK(json[0] == '{' && strstr(json, "\"inbound\""));
    axt_string_free(json);
    OK(axt_transport_free(context, a.transport, &error));
    OK(axt_transport_free(context, b.transport, &error));
}

static void strange(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    (void)bytes, (void)len;
    CHECK(!sender->known && sender->id == 0 && sender->node == 0);
    CHECK(sender->datagram == (group == 7));
    GIVES(AXT_UNKNOWN_SENDER, axt_reply(context, sender, group, "a", 1, &error));
    gate_add(user, 1);
}

static void datagrams_and_long_messages_arrive_from_nodes_without_identity(void) {
    char address[64];
    static char frame[10 << 20];
    gate calls = GATE;
    axt_transport a = new_transport(), b = new_transport();
    OK(axt_register_all(context, a, strange, &calls, 3, &error));
    bind_somewhere(context, a, address);
    OK(axt_bind(context, b, "127.0.0.1:0", &error));
    axt_peer peer = peer_at(b, address);
    OK(axt_send_datagram(context, peer, 7, "a", 1, &error));
    OK(axt_send_auto(context, peer, 7, "a", 1, &error));
    gate_wait(&calls, 2);
    OK(axt_send_auto(context, peer, 8, frame, 1 << 20, &error));
    OK(axt_try_send(context, peer, 9, frame, sizeof frame - 4, NULL, &error));
    gate_wait(&calls, 4);
    OK(axt_transport_free(context, b, &error));
    OK(axt_transport_free(context, a, &error));
}

int main(void) {
    context = new_context();
    every_code_has_a_text_and_other_numbers_too();
    null_pointers_are_errors();
    handles_after_their_end_are_errors();
    settings_are_set_by_name_and_errors_name_the_field();
    settings_are_read_from_a_file();
    a_port_that_is_in_use_is_an_error_and_another_may_be_tried();
    bad_identities_keys_and_addresses_are_errors();
    registrations_that_cannot_be_are_errors();
    sends_that_cannot_be_are_errors();
    messages_and_answers_arrive();
    datagrams_and_long_messages_arrive_from_nodes_without_identity();
    OK(axt_context_free(context, &error));
    return 0;
}
