// Two nodes in one process: one sends a line, the other sends it back. Build it as the README says.
#include <actix_transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static axt_context *context;
static axt_error error;
static int done[2]; // A pipe, for main to wait on.

static void must(axt_code code) {
    if (code != AXT_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

// Runs on a thread of the server. Sends each message back to who sent it.
static void echo(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    (void)user;
    axt_reply(context, sender, group, bytes, len, NULL);
}

// Runs on a thread of the client.
static void answer(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    (void)user;
    printf("node %d, group %u: %.*s\n", (int)sender->node, group, (int)len, (const char *)bytes);
    if (write(done[1], "", 1) != 1) exit(1);
}

static axt_transport start(uint64_t node, axt_on_message on_message) {
    axt_config defaults = {0};
    axt_transport transport;
    must(axt_transport_new(context, defaults, &transport, &error));
    must(axt_identity(context, transport, node, "echo", NULL, &error));
    must(axt_register_all(context, transport, on_message, NULL, 1, &error));
    must(axt_bind(context, transport, "127.0.0.1:0", &error));
    return transport;
}

int main(void) {
    char address[64], byte;
    axt_peer peer;
    must(axt_context_new(&context, &error));
    axt_transport server = start(1, echo), client = start(2, answer);
    if (pipe(done) != 0) return 1;

    must(axt_address(context, server, address, sizeof address, &error));
    must(axt_peer_get(context, client, address, &peer, &error));
    must(axt_send(context, peer, 3, "hello", strlen("hello"), NULL, 5000, &error));
    if (read(done[0], &byte, 1) != 1) return 1;

    must(axt_stop(context, client, 1000, NULL, &error)); // Waits for what is queued, 1 s at most.
    must(axt_stop(context, server, 1000, NULL, &error));
    must(axt_context_free(context, &error)); // Ends what is left.
    return 0;
}
