// What the tests share. Tests wait for facts: a gate counts them.
#ifndef CHECK_H
#define CHECK_H

#include <actix_transport.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(fact)                                                                \
    do {                                                                           \
        if (!(fact)) {                                                             \
            fprintf(stderr, "%s:%d: this must hold: %s\n", __FILE__, __LINE__, #fact); \
            abort();                                                               \
        }                                                                          \
    } while (0)

// Calls, and fails with the text if the code is another one.
#define GIVES(wanted, call)                                                                    \
    do {                                                                                       \
        axt_code code_ = (call);                                                               \
        if (code_ != (wanted)) {                                                               \
            fprintf(stderr, "%s:%d: %s returned %d (%s), not %s: %s\n", __FILE__, __LINE__, #call, \
                    (int)code_, axt_error_text(code_), #wanted, code_ ? error.text : "");      \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

#define OK(call) GIVES(AXT_OK, call)

// Each thread of a test has its own.
static __thread axt_error error;

static const axt_config no_config = {0};

// Counts facts, and lets others wait for them.
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    long count;
} gate;

#define GATE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static inline void gate_add(gate *gate, long more) {
    pthread_mutex_lock(&gate->lock);
    gate->count += more;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static inline long gate_count(gate *gate) {
    pthread_mutex_lock(&gate->lock);
    long count = gate->count;
    pthread_mutex_unlock(&gate->lock);
    return count;
}

// Waits until the count is reached. The limit is for a test that hangs.
#define gate_wait(gate, count) CHECK(gate_reaches(gate, count))

static inline int gate_reaches(gate *gate, long count) {
    struct timespec limit;
    int late = 0;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 60;
    pthread_mutex_lock(&gate->lock);
    while (gate->count < count && !late) late = pthread_cond_timedwait(&gate->changed, &gate->lock, &limit);
    pthread_mutex_unlock(&gate->lock);
    return !late;
}

// Sleeps for a moment between two looks at something that nobody tells of.
static inline void moment(void) {
    struct timespec time = {0, 1000000};
    nanosleep(&time, NULL);
}

static inline axt_context *new_context(void) {
    axt_context *context;
    OK(axt_context_new(&context, &error));
    return context;
}

// Binds a transport to a port that the system chooses, and tells its address.
static inline void bind_somewhere(axt_context *context, axt_transport transport, char address[64]) {
    OK(axt_bind(context, transport, "127.0.0.1:0", &error));
    OK(axt_address(context, transport, address, 64, &error));
}

static inline void ignore_message(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes,
                                  size_t len) {
    (void)user, (void)group, (void)sender, (void)bytes, (void)len;
}

// Adds 1 to the gate that `user` is.
static inline void count_message(void *user, uint32_t group, const axt_sender *sender, const uint8_t *bytes,
                                 size_t len) {
    (void)group, (void)sender, (void)bytes, (void)len;
    gate_add(user, 1);
}

#endif
