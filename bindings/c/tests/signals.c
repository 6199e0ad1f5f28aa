// The library leaves the settings of the process alone, and no signal comes of connections that break.
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { SIGNALS = 32, CONNECTIONS = 60 };

typedef struct {
    void (*handlers[SIGNALS])(int);
    sigset_t blocked;
    struct rlimit files;
} settings;

static settings look(void) {
    settings seen;
    memset(&seen, 0, sizeof seen);
    for (int number = 1; number < SIGNALS; number++) {
        struct sigaction action;
        CHECK(sigaction(number, NULL, &action) == 0);
        seen.handlers[number] = action.sa_handler;
    }
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &seen.blocked) == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &seen.files) == 0);
    return seen;
}

// Accepts connections, reads a little and cuts each in the middle of what comes.
static void *cut(void *arg) {
    int listening = *(int *)arg;
    for (int i = 0; i < CONNECTIONS; i++) {
        char bytes[100];
        struct linger now = {1, 0};
        int connection = accept(listening, NULL, NULL);
        CHECK(connection >= 0);
        CHECK(read(connection, bytes, sizeof bytes) >= 0);
        if (i % 2) CHECK(setsockopt(connection, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
        close(connection);
    }
    close(listening);
    return NULL;
}

int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char address[64];
    static char bytes[20000];
    pthread_t cutter;
    axt_config config;
    axt_transport transport;
    axt_peer peer;
    axt_stats stats = {0};
    settings before = look();
    CHECK(before.handlers[SIGPIPE] == SIG_DFL);
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listening, (struct sockaddr *)&at, len) == 0 && listen(listening, 16) == 0);
    CHECK(getsockname(listening, (struct sockaddr *)&at, &len) == 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(at.sin_port));

    axt_context *context = new_context();
    OK(axt_config_new(context, false, &config, &error));
    OK(axt_config_set(context, config, "redial_first", "1ms", &error));
    OK(axt_config_set(context, config, "redial_max", "2ms", &error));
    OK(axt_transport_new(context, config, &transport, &error));
    OK(axt_bind(context, transport, "127.0.0.1:0", &error));
    OK(axt_peer_get(context, transport, address, &peer, &error));
    CHECK(pthread_create(&cutter, NULL, cut, &listening) == 0);
    do {
        // Frames that are written alone, and several with one call.
        axt_code code = axt_try_send(context, peer, 1, bytes, stats.disconnects % 2 ? sizeof bytes : 64, NULL, &error);
        CHECK(code == AXT_OK || code == AXT_FULL);
        if (code == AXT_FULL) moment();
        OK(axt_stats_get(context, transport, &stats, &error));
    } while (stats.disconnects < CONNECTIONS);
    pthread_join(cutter, NULL);
    OK(axt_context_free(context, &error));
    settings after = look();
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    printf("%d connections were cut\n", CONNECTIONS);
    return 0;
}
