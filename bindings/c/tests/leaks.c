// A thousand starts and stops, or as many as the argument says, leave no memory, descriptors or threads.
#include "process.h"

#include <malloc.h>

static void start_and_stop(void) {
    gate received = GATE;
    char address[64], *json;
    axt_config config;
    axt_transport transport;
    axt_peer peer;
    axt_context *context = new_context();
    OK(axt_config_new(context, false, &config, &error));
    OK(axt_config_set(context, config, "queue_bytes", "64MiB", &error));
    OK(axt_transport_new(context, config, &transport, &error));
    OK(axt_identity(context, transport, 1, "leaks", NULL, &error));
    OK(axt_register(context, transport, 1, count_message, &received, 1, &error));
    OK(axt_register_all(context, transport, count_message, &received, 2, &error));
    bind_somewhere(context, transport, address);
    OK(axt_peer_get(context, transport, address, &peer, &error));
    OK(axt_send(context, peer, 1, "a", 1, NULL, 5000, &error));
    OK(axt_send(context, peer, 2, "b", 1, NULL, 5000, &error));
    gate_wait(&received, 2);
    OK(axt_stats_json(context, transport, &json, &error));
    axt_string_free(json);
    OK(axt_stop(context, transport, 1000, NULL, &error));
    OK(axt_transport_free(context, transport, &error));
    OK(axt_context_free(context, &error));
}

int main(int argc, char **argv) {
    int times = argc > 1 ? atoi(argv[1]) : 1000, first = times / 2;
    for (int i = 0; i < first; i++) start_and_stop();
    long threads_before = threads(), descriptors_before = descriptors();
    long resident = status("VmRSS:");
    size_t used = mallinfo2().uordblks;
    for (int i = first; i < times; i++) start_and_stop();
    wait_for_threads(threads_before);
    long more_descriptors = descriptors() - descriptors_before;
    long more_bytes = (long)(mallinfo2().uordblks - used), more_kib = status("VmRSS:") - resident;
    printf("%d starts and stops: %ld threads, %ld descriptors, %ld bytes of the heap and %ld KiB more than after %d\n",
           times, threads() - threads_before, more_descriptors, more_bytes, more_kib, first);
    fflush(stdout);
    CHECK(more_descriptors == 0);
    // Less than 50 bytes for each. The allocator counts what it keeps for threads that have ended as used: some 20 KB,
    // however often this is done.
    CHECK(more_bytes < 32 * 1024 + 50 * (times - first));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(more_kib < 8 * 1024);
#endif
    return 0;
}
