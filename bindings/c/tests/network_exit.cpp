// Networks that live until the process ends: the destructors of static objects, and of those of a thread, stop them.
#include "check.hpp"

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

int main() {
    node.Use(network);
    SendAll(network, Run(network), Message(0, "to itself"));
    received.Wait(1);
    std::thread(OfThread).join();
    OfThread();
    std::printf("received %ld messages, and ends\n", received.Count());
    return 0;
}
