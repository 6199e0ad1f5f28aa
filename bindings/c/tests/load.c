// Loads the library at run time and closes it, after which it stays loaded, again and again. The argument is its path.
// Is not linked with it.
#include "process.h"

#include <dlfcn.h>

static const char *path;

// Everything through pointers, as a plug-in would do it.
#define LOAD(name) __typeof__(&name) load_##name = (__typeof__(&name))dlsym(library, #name); CHECK(load_##name)

static void *use(void *arg) {
    void *library = arg;
    gate received = GATE;
    char address[64];
    axt_context *context;
    axt_transport transport;
    axt_peer peer;
    LOAD(axt_context_new);
    LOAD(axt_context_free);
    LOAD(axt_transport_new);
    LOAD(axt_register);
    LOAD(axt_bind);
    LOAD(axt_address);
    LOAD(axt_peer_get);
    LOAD(axt_send);
    CHECK(load_axt_context_new(&context, NULL) == AXT_OK);
    CHECK(load_axt_transport_new(context, no_config, &transport, NULL) == AXT_OK);
    CHECK(load_axt_register(context, transport, 1, count_message, &received, 2, NULL) == AXT_OK);
    CHECK(load_axt_bind(context, transport, "127.0.0.1:0", NULL) == AXT_OK);
    CHECK(load_axt_address(context, transport, address, 64, NULL) == AXT_OK);
    CHECK(load_axt_peer_get(context, transport, address, &peer, NULL) == AXT_OK);
    CHECK(load_axt_send(context, peer, 1, "a", 1, NULL, 5000, NULL) == AXT_OK);
    gate_wait(&received, 1);
    CHECK(load_axt_context_free(context, NULL) == AXT_OK);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    path = argv[1];
    long threads_before = threads(), descriptors_before = descriptors();
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) fprintf(stderr, "%s\n", dlerror());
        CHECK(library);
        CHECK(pthread_create(&thread, NULL, use, library) == 0);
        pthread_join(thread, NULL);
        wait_for_threads(threads_before);
        CHECK(dlclose(library) == 0);
        // Threads that wait for the system may still be running.
        void *still = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
        CHECK(still && dlclose(still) == 0);
    }
    CHECK(descriptors() == descriptors_before);
    printf("loaded 20 times\n");
    return 0;
}
