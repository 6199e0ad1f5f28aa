// What ActixNetWork does in a second, compared with a plain network of the kind that PhxPaxos has by default.
//
// Two networks of a kind in this process, and messages of 64 bytes, with their group, over a real connection. The kinds
// take turns. Prints each run, and the ratios of the medians.
//
//     throughput   one thread sends as many as it can, and the other network's OnReceiveMessage counts them
//     round trip   OnReceiveMessage sends one message back and forth; a run is the median of ten short ones, in turns
#include "actix_transport_phxpaxos.hpp"
#include "phxpaxos/node.h"
#include "plain_network.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

using actix_transport::ActixNetWork;

static const int ROUNDS = 5;
// Round trips are measured more often and for a shorter time, because other work on the machine disturbs them more.
static const int ROUND_TRIPS = 10;
static const std::chrono::milliseconds WARM_UP(100), TIME(1000), ROUND_TRIP_TIME(200);
static const std::string IP = "127.0.0.1";

// Calls a function of the benchmark for each message.
template <class OnMessage>
class BenchNode : public phxpaxos::Node {
public:
    explicit BenchNode(const OnMessage & onMessage) : m_onMessage(onMessage) {}
    virtual int Propose(const int, const std::string &, uint64_t &, phxpaxos::SMCtx *) { return -1; }

protected:
    virtual int OnReceiveMessage(const char *, const int) {
        m_onMessage();
        return 0;
    }

private:
    OnMessage m_onMessage;
};

template <class OnMessage>
static BenchNode<OnMessage> Node(const OnMessage & onMessage) {
    return BenchNode<OnMessage>(onMessage);
}

// Returns how often the count grows in a second.
static double Rate(const std::atomic<uint64_t> & count, const std::chrono::milliseconds time) {
    std::this_thread::sleep_for(WARM_UP);
    const auto begun = std::chrono::steady_clock::now();
    const uint64_t before = count.load();
    std::this_thread::sleep_for(time);
    const uint64_t more = count.load() - before;
    return static_cast<double>(more) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

// Counts without a locked instruction. Only one thread may call it.
static void Count(std::atomic<uint64_t> & count) {
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// Returns messages per second.
template <class NetWork>
static double Throughput(NetWork & sending, NetWork & receiving) {
    std::atomic<uint64_t> count(0);
    std::atomic<bool> done(false);
    auto node = Node([&] { Count(count); });
    node.Use(receiving);
    sending.RunNetWork();
    receiving.RunNetWork();
    const int port = receiving.Port();
    std::thread sender([&] {
        const std::string message(64, 0);
        while (!done.load(std::memory_order_relaxed))
            if (sending.SendMessageTCP(0, IP, port, message) != 0) std::this_thread::yield();
    });
    const double rate = Rate(count, TIME);
    done.store(true);
    sender.join();
    sending.StopNetWork();
    receiving.StopNetWork();
    return rate;
}

// Returns microseconds per round trip.
template <class NetWork>
static double RoundTrip(NetWork & first, NetWork & second) {
    const std::string message(64, 0);
    std::atomic<uint64_t> count(0);
    int to_first = 0, to_second = 0;
    auto back = Node([&] { second.SendMessageTCP(0, IP, to_first, message); });
    auto forth = Node([&] {
        Count(count);
        first.SendMessageTCP(0, IP, to_second, message);
    });
    forth.Use(first);
    back.Use(second);
    first.RunNetWork();
    second.RunNetWork();
    to_first = first.Port();
    to_second = second.Port();
    first.SendMessageTCP(0, IP, to_second, message);
    const double rate = Rate(count, ROUND_TRIP_TIME);
    first.StopNetWork();
    second.StopNetWork();
    return 1e6 / rate;
}

static double Median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// Returns how many threads of the machine want to run, on average over a minute.
static std::string Load() {
    std::string load;
    std::ifstream("/proc/loadavg") >> load;
    return load;
}

int main() {
    std::printf("%u cores, load %s\n", std::thread::hardware_concurrency(), Load().c_str());
    std::vector<double> rates[3], times[3];
    for (int round = 0; round < ROUNDS; round++) {
        for (const PlainNetWork::Reads reads : {PlainNetWork::EACH, PlainNetWork::MANY}) {
            PlainNetWork a(reads), b(reads);
            rates[reads].push_back(Throughput(a, b));
        }
        ActixNetWork a(IP, 0), b(IP, 0);
        rates[2].push_back(Throughput(a, b));
        std::vector<double> trips[3];
        for (int i = 0; i < ROUND_TRIPS; i++) {
            for (const PlainNetWork::Reads reads : {PlainNetWork::EACH, PlainNetWork::MANY}) {
                PlainNetWork c(reads), d(reads);
                trips[reads].push_back(RoundTrip(c, d));
            }
            ActixNetWork c(IP, 0), d(IP, 0);
            trips[2].push_back(RoundTrip(c, d));
        }
        for (int kind = 0; kind < 3; kind++) times[kind].push_back(Median(trips[kind]));
        std::printf("messages/s: plain %.0f, plain with long reads %.0f, ActixNetWork %.0f; round trip in us: %.1f, %.1f, %.1f\n",
                    rates[0].back(), rates[1].back(), rates[2].back(), times[0].back(), times[1].back(),
                    times[2].back());
        std::fflush(stdout);
    }
    const double rate = Median(rates[2]), time = Median(times[2]);
    std::printf("medians of %d: messages/s: plain %.0f, plain with long reads %.0f, ActixNetWork %.0f; round trip in us: %.1f, %.1f, %.1f\n",
                ROUNDS, Median(rates[0]), Median(rates[1]), rate, Median(times[0]), Median(times[1]), time);
    std::printf("ActixNetWork sends %.1f times as many as the plain network, and %.1f times as many as one with long reads\n",
                rate / Median(rates[0]), rate / Median(rates[1]));
    std::printf("its round trip takes %.2f times as long, and %.2f times as long as with long reads\n",
                time / Median(times[0]), time / Median(times[1]));
    std::printf("load at the end %s\n", Load().c_str());
    return 0;
}
