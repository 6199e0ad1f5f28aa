// A thousand starts and stops of ActixNetWork, or as many as the argument says, leave no memory, descriptors or threads.
#include "check.hpp"

#include <dirent.h>
#include <fstream>
#include <malloc.h>

static void StartAndStop(const bool runs) {
    ActixNetWork sending(IP, 0), receiving(IP, 0, 2);
    Receiver received(receiving);
    if (!runs) {
        EQUAL(sending.Init(), 0);
        return;
    }
    Run(sending);
    const int port = Run(receiving);
    EQUAL(sending.SendMessageTCP(1, IP, port, Message(1, "a")), 0);
    EQUAL(sending.SendMessageUDP(2, IP, port, Message(2, "b")), 0);
    EQUAL(received.Wait(2).size(), 2);
    CHECK(!sending.StatsJson().empty());
    if (port % 2 == 0) sending.StopNetWork();
}

static long Descriptors() {
    long count = 0;
    DIR * dir = opendir("/proc/self/fd");
    CHECK(dir != nullptr);
    while (readdir(dir) != nullptr) count++;
    closedir(dir);
    return count;
}

// Reads a number from /proc/self/status.
static long Status(const std::string & name) {
    std::ifstream file("/proc/self/status");
    std::string line;
    while (std::getline(file, line))
        if (line.compare(0, name.size(), name) == 0) return std::atol(line.c_str() + name.size());
    CHECK(!"found");
    return 0;
}

int main(int argc, char ** argv) {
    const int times = argc > 1 ? std::atoi(argv[1]) : 1000, first = times / 2;
    for (int i = 0; i < first; i++) StartAndStop(i % 10 != 0);
    const long threads = Status("Threads:"), descriptors = Descriptors(), resident = Status("VmRSS:");
    const size_t used = mallinfo2().uordblks;
    for (int i = first; i < times; i++) StartAndStop(i % 10 != 0);
    // The system counts a thread for a moment after it was joined.
    for (int i = 0; Status("Threads:") > threads; i++) {
        CHECK(i < 10000);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const long more_descriptors = Descriptors() - descriptors;
    const long more_bytes = static_cast<long>(mallinfo2().uordblks - used), more_kib = Status("VmRSS:") - resident;
    std::printf("%d starts and stops: %ld threads, %ld descriptors, %ld bytes of the heap and %ld KiB more than after %d\n",
                times, Status("Threads:") - threads, more_descriptors, more_bytes, more_kib, first);
    std::fflush(stdout);
    EQUAL(more_descriptors, 0);
    // The allocator counts what it keeps for threads that have ended as used.
    CHECK(more_bytes < 32 * 1024 + 50 * (times - first));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(more_kib < 8 * 1024);
#endif
    return 0;
}
