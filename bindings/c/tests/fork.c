// A forked process cannot use the context of the one that it was forked from, and gets an error.
#include "check.h"

#include <sys/wait.h>

int main(void) {
    gate received = GATE;
    char address[64], *json;
    int result;
    axt_config config;
    axt_transport transport, other;
    axt_peer peer;
    axt_stats stats;
    axt_sender sender = {.id = 1};
    axt_context *context = new_context();
    OK(axt_config_new(context, false, &config, &error));
    OK(axt_transport_new(context, config, &transport, &error));
    OK(axt_register_all(context, transport, count_message, &received, 2, &error));
    bind_somewhere(context, transport, address);
    OK(axt_peer_get(context, transport, address, &peer, &error));
    OK(axt_send(context, peer, 1, "a", 1, NULL, 5000, &error));
    gate_wait(&received, 1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        GIVES(AXT_FORKED, axt_try_send(context, peer, 1, "a", 1, NULL, &error));
        CHECK(strstr(error.text, "forked"));
        GIVES(AXT_FORKED, axt_send(context, peer, 1, "a", 1, NULL, 10, &error));
        GIVES(AXT_FORKED, axt_send_datagram(context, peer, 1, "a", 1, &error));
        GIVES(AXT_FORKED, axt_send_auto(context, peer, 1, "a", 1, &error));
        GIVES(AXT_FORKED, axt_reply(context, &sender, 1, "a", 1, &error));
        GIVES(AXT_FORKED, axt_peer_get(context, transport, address, &peer, &error));
        GIVES(AXT_FORKED, axt_peer_free(context, peer, &error));
        GIVES(AXT_FORKED, axt_config_set(context, config, "udp", "true", &error));
        GIVES(AXT_FORKED, axt_transport_new(context, config, &other, &error));
        GIVES(AXT_FORKED, axt_register(context, transport, 1, ignore_message, NULL, 1, &error));
        GIVES(AXT_FORKED, axt_stats_get(context, transport, &stats, &error));
        GIVES(AXT_FORKED, axt_stats_json(context, transport, &json, &error));
        GIVES(AXT_FORKED, axt_stop(context, transport, 0, NULL, &error));
        GIVES(AXT_FORKED, axt_transport_free(context, transport, &error));
        GIVES(AXT_FORKED, axt_context_free(context, &error));
#ifndef __SANITIZE_THREAD__ // It allows no threads in a forked process.
        // One of its own works, and reaches the first process.
        axt_context *own = new_context();
        OK(axt_transport_new(own, no_config, &other, &error));
        OK(axt_bind(own, other, "127.0.0.1:0", &error));
        OK(axt_peer_get(own, other, address, &peer, &error));
        OK(axt_send(own, peer, 1, "a", 1, NULL, 5000, &error));
        OK(axt_stop(own, other, 5000, NULL, &error));
        OK(axt_context_free(own, &error));
#endif
        _exit(0);
    }
    CHECK(waitpid(child, &result, 0) == child && WIFEXITED(result) && WEXITSTATUS(result) == 0);
    OK(axt_send(context, peer, 1, "a", 1, NULL, 5000, &error));
#ifdef __SANITIZE_THREAD__
    gate_wait(&received, 2);
#else
    gate_wait(&received, 3);
#endif
    OK(axt_context_free(context, &error));
    return 0;
}
