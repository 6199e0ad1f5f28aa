// What a process has, as the system counts it.
#ifndef PROCESS_H
#define PROCESS_H

#include "check.h"

#include <dirent.h>

static inline long descriptors(void) {
    long count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

// Reads a number from /proc/self/status.
static inline long status(const char *name) {
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) value = atol(line + strlen(name));
    fclose(file);
    CHECK(value >= 0);
    return value;
}

static inline long threads(void) { return status("Threads:"); }

// Waits until there are as many threads as before: the system counts one for a moment after it was joined.
static inline void wait_for_threads(long before) {
    for (int i = 0; threads() > before; i++) {
        CHECK(i < 10000);
        moment();
    }
}

#endif
