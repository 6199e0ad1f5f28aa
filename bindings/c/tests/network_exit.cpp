// Networks that live until the process ends: the destructors of static objects, and of those of a thread, stop them.
// A forked process does not end what threads that are not there wait for.
#include "check.hpp"

#include <sys/wait.h>

static Counter received;
static TestNode node([](const char *, int) { received.Add(); });
static ActixNetWork network(IP, 0);

static void OfThread() {
    static thread_local ActixNetWork of_thread(IP, 0, 0);
    node.Use(of_thread);
    const long before = received.Count();
    SendAll(of_thread, Run(of_thread), Message(0, "to itself"));
    received.Wait(before + 1);
}

static void forked() {
    std::unique_ptr<ActixNetWork> waiting(new ActixNetWork(IP, 0));
    EQUAL(waiting->Init(), 0);
    SendAll(network, waiting->Port(), Message(0, "waits for RunNetWork"));
    axt_stats stats;
    do {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        EQUAL(waiting->Stats(stats), 0);
    } while (stats.in_delivery.frames == 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        waiting.reset();
        _exit(0);
    }
    int result;
    CHECK(waitpid(child, &result, 0) == child && WIFEXITED(result) && WEXITSTATUS(result) == 0);
}

int main() {
    node.Use(network);
    SendAll(network, Run(network), Message(0, "to itself"));
    received.Wait(1);
    std::thread(OfThread).join();
    OfThread();
    forked();
    std::printf("received %ld messages, and ends\n", received.Count());
    return 0;
}
