// Stops ActixNetWork while ten threads send and OnReceiveMessage runs, a hundred times in a row, or as often as the
// argument says.
#include "check.hpp"

enum { SENDERS = 10, STOPPERS = 3 };

// Sends over TCP and UDP until the network has stopped.
static void KeepSending(ActixNetWork & network, const int port) {
    const std::string bytes(600, 'x');
    for (int i = 0;; i++) {
        const std::string message = Message(i % 4, bytes.substr(static_cast<size_t>(i % 600)));
        const int sent = i % 7 == 0 ? network.SendMessageUDP(i % 4, IP, port, message)
                                    : network.SendMessageTCP(i % 4, IP, port, message);
        if (sent == -1) return;
        CHECK(sent == 0 || sent == -2);
    }
}

static void StopBySeveral(ActixNetWork & network) {
    std::vector<std::thread> stoppers;
    for (int i = 0; i < STOPPERS; i++) stoppers.emplace_back([&] { EQUAL(network.Stop(), 0); });
    for (std::thread & stopper : stoppers) stopper.join();
}

static void stop_amid_everything(const int round) {
    ActixNetWork sending(IP, 0, 1 + round % 2), receiving(IP, 0, 1 + round % 3);
    std::atomic<bool> stopped(false);
    Counter received;
    TestNode node([&](const char *, int) {
        CHECK(!stopped.load());
        // This would wait for itself.
        receiving.StopNetWork();
        EQUAL(receiving.Stop(), -1);
        received.Add();
        CHECK(!stopped.load());
    });
    node.Use(receiving);
    Run(sending);
    const int port = Run(receiving);
    std::vector<std::thread> senders;
    for (int i = 0; i < SENDERS; i++) senders.emplace_back([&] { KeepSending(sending, port); });
    received.Wait(100 + round);
    CHECK(receiving.LastError().find("callback") != std::string::npos);
    // Now one side first, now the other.
    if (round % 2 == 1) StopBySeveral(sending);
    StopBySeveral(receiving);
    stopped.store(true);
    if (round % 2 == 0) StopBySeveral(sending);
    for (std::thread & sender : senders) sender.join();
}

// The destructor stops, too, and another network may be stopped by a message.
static void a_message_stops_another_network() {
    ActixNetWork first(IP, 0), sending(IP, 0);
    Run(first);
    Counter stopped;
    TestNode node([&](const char *, int) {
        EQUAL(first.Stop(), 0);
        stopped.Add();
    });
    ActixNetWork second(IP, 0);
    node.Use(second);
    Run(sending);
    SendAll(sending, Run(second), Message(0, "stop"));
    stopped.Wait(1);
}

// A call that takes long is waited for.
static void stop_waits_for_the_message_that_is_handled() {
    ActixNetWork sending(IP, 0), receiving(IP, 0);
    Counter begun, may_end;
    std::atomic<bool> ended(false);
    TestNode node([&](const char *, int) {
        begun.Add();
        may_end.Wait(1);
        ended.store(true);
    });
    node.Use(receiving);
    Run(sending);
    SendAll(sending, Run(receiving), Message(0, "slow"));
    begun.Wait(1);
    std::thread stopper([&] {
        EQUAL(receiving.Stop(), 0);
        CHECK(ended.load());
    });
    // Once it is stopping, nothing can be sent.
    while (receiving.SendMessageTCP(0, IP, 1, Message(0, "a")) != -1) std::this_thread::yield();
    CHECK(!ended.load());
    may_end.Add();
    stopper.join();
}

// Messages that were read together with the one that is handled are not passed on.
static void stop_does_not_wait_for_the_messages_behind() {
    const int messages = 2000;
    ActixNetWork sending(IP, 0), receiving(IP, 0);
    Counter first, go_on, begun;
    TestNode node([&](const char * bytes, const int len) {
        if (RestOf(std::string(bytes, static_cast<size_t>(len))) == "first") {
            first.Add();
            go_on.Wait(1);
            return;
        }
        begun.Add();
        while (begun.Count() == 1 && receiving.SendMessageTCP(0, IP, 1, Message(0, "a")) != -1) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    node.Use(receiving);
    // On a busy machine they may wait for long.
    EQUAL(sending.Set("stale_after", "120s"), 0);
    Run(sending);
    const int port = Run(receiving);
    SendAll(sending, port, Message(0, "first"));
    first.Wait(1);
    for (int i = 0; i < messages; i++) SendAll(sending, port, Message(0, "a"));
    axt_stats stats;
    do {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        EQUAL(sending.Stats(stats), 0);
        CHECK(stats.tcp.dropped.frames == 0);
    } while (stats.tcp.written.frames < 1 + messages);
    go_on.Add();
    begun.Wait(1);
    EQUAL(receiving.Stop(), 0);
    // Some 200 messages were read together.
    CHECK(begun.Count() < 100);
}

int main(int argc, char ** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
    a_message_stops_another_network();
    stop_waits_for_the_message_that_is_handled();
    stop_does_not_wait_for_the_messages_behind();
    for (int round = 0; round < rounds; round++) stop_amid_everything(round);
    std::printf("stopped %d times\n", rounds);
    return 0;
}
