// Transports that are used and stopped when a thread ends, and in `exit`, where the library's variables of the thread
// have ended already.
#include "check.h"

static gate received = GATE;
static axt_context *context;
static axt_transport transport, other;
static axt_peer peer;
static pthread_key_t at_end_of_thread, at_end_of_callback_thread;
static int ended;

static void start(axt_transport *started) {
    OK(axt_transport_new(context, no_config, started, &error));
    OK(axt_register(context, *started, 1, count_message, &received, 1, &error));
    OK(axt_register(context, *started, 2, count_message, &received, 0, &error));
}

// Sends to itself, and waits for it.
static void use(axt_transport used) {
    char address[64];
    long before = gate_count(&received);
    OK(axt_address(context, used, address, 64, &error));
    OK(axt_peer_get(context, used, address, &peer, &error));
    OK(axt_send(context, peer, 1, "a", 1, NULL, 5000, &error));
    OK(axt_send(context, peer, 2, "a", 1, NULL, 5000, &error));
    gate_wait(&received, before + 2);
}

static void end_of_thread(void *arg) {
    (void)arg;
    use(other);
    OK(axt_stop(context, other, 5000, NULL, &error));
    OK(axt_transport_free(context, other, &error));
    ended++;
}

// Called when a thread ends that ran a callback, on which nothing of the library was called before.
static void end_of_callback_thread(void *arg) {
    OK(axt_try_send(context, *(axt_peer *)arg, 4, "a", 1, NULL, &error));
}

static void remember(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes, size_t len) {
    (void)user, (void)group, (void)sender, (void)bytes, (void)len;
    CHECK(pthread_setspecific(at_end_of_callback_thread, &peer) == 0);
    gate_add(&received, 1);
}

// The transport that called back stops, and so its thread ends.
static void end_a_callback_thread(void) {
    char address[64];
    long before = gate_count(&received);
    axt_transport calls_back;
    OK(axt_transport_new(context, no_config, &calls_back, &error));
    OK(axt_register(context, calls_back, 3, remember, NULL, 1, &error));
    bind_somewhere(context, calls_back, address);
    axt_peer there;
    OK(axt_peer_get(context, transport, address, &there, &error));
    OK(axt_send(context, there, 3, "a", 1, NULL, 5000, &error));
    gate_wait(&received, before + 1);
    OK(axt_address(context, transport, address, 64, &error));
    OK(axt_peer_get(context, transport, address, &peer, &error));
    OK(axt_stop(context, calls_back, 5000, NULL, &error));
    gate_wait(&received, before + 2);
    OK(axt_transport_free(context, calls_back, &error));
}

static void *thread(void *arg) {
    char address[64];
    start(&other);
    bind_somewhere(context, other, address);
    use(other);
    CHECK(pthread_setspecific(at_end_of_thread, arg) == 0);
    return NULL;
}

static void at_exit(void) {
    use(transport);
    OK(axt_stop(context, transport, 5000, NULL, &error));
    GIVES(AXT_STOPPED, axt_send(context, peer, 1, "a", 1, NULL, 5000, &error));
    OK(axt_context_free(context, &error));
    printf("stopped when a thread ended, and in exit\n");
}

int main(void) {
    char address[64];
    pthread_t ending;
    CHECK(atexit(at_exit) == 0);
    context = new_context();
    start(&transport);
    bind_somewhere(context, transport, address);
    use(transport);
    CHECK(pthread_key_create(&at_end_of_thread, end_of_thread) == 0);
    CHECK(pthread_create(&ending, NULL, thread, &other) == 0);
    pthread_join(ending, NULL);
    CHECK(ended == 1);
    CHECK(pthread_key_create(&at_end_of_callback_thread, end_of_callback_thread) == 0);
    OK(axt_register(context, transport, 4, count_message, &received, 1, &error));
    end_a_callback_thread();
    return 0;
}
