// What ActixNetWork sends and receives, and what it returns.
#include "check.hpp"

#include <csignal>
#include <cstdlib>
#include <fstream>

// The bytes that PhxPaxos writes for a message: the length, which counts itself, and the message.
static std::string Frame(const std::string & message) {
    const uint32_t len = htonl(static_cast<uint32_t>(message.size() + 4));
    return std::string(reinterpret_cast<const char *>(&len), 4) + message;
}

static void messages_arrive_in_the_order_of_their_connection_and_for_their_groups() {
    ActixNetWork sending(IP, 0), receiving(IP, 0, 2);
    Receiver received(receiving);
    Run(sending);
    const int port = Run(receiving);
    const int count = 30000;
    const auto sent = [](const int i) { return Message(i % 1000 * (i % 1000) % 7, std::to_string(i)); };
    for (int i = 0; i < count; i++) SendAll(sending, port, sent(i));
    const std::vector<std::string> messages = received.Wait(count);
    EQUAL(messages.size(), count);
    for (int i = 0; i < count; i++) CHECK(messages[static_cast<size_t>(i)] == sent(i));
}

static void messages_of_all_lengths_arrive_as_they_were() {
    ActixNetWork sending(IP, 0), receiving(IP, 0);
    Receiver received(receiving);
    Run(sending);
    const int port = Run(receiving);
    std::vector<std::string> sent;
    // 10 MiB is the longest message that PhxPaxos takes, with its group.
    for (size_t len : {0, 1, 4, 64, 4096, 8191, 8192, 524280, 1 << 20, (10 << 20) - 4}) {
        std::string rest(len, 0);
        for (size_t i = 0; i < len; i++) rest[i] = static_cast<char>(i * 31 + i / 253);
        sent.push_back(Message(3, rest));
        EQUAL(sending.SendMessageTCP(3, IP, port, sent.back()), 0);
    }
    CHECK(received.Wait(static_cast<long>(sent.size())) == sent);
    EQUAL(sending.SendMessageTCP(3, IP, port, Message(3, std::string((10 << 20) - 3, 0))), -1);
}

static void large_value_mode_takes_50_mib() {
    ActixNetWork sending(IP, 0, 1, "", true), receiving(IP, 0, 1, "", true);
    Receiver received(receiving);
    Run(sending);
    const int port = Run(receiving);
    const std::string message = Message(0, std::string((50 << 20) - 4, 'x'));
    EQUAL(sending.SendMessageTCP(0, IP, port, message), 0);
    CHECK(received.Wait(1)[0] == message);
}

static void the_bytes_on_the_wire_are_those_of_phxpaxos() {
    ActixNetWork network(IP, 0);
    Receiver received(network);
    const int port = Run(network);
    // Out: a plain socket gets the frames and nothing else.
    Plain listener(SOCK_STREAM);
    const int out = listener.Bind(true);
    const std::string one = Message(0x01020304, "one"), two = Message(0, "");
    EQUAL(network.SendMessageTCP(0x01020304, IP, out, one), 0);
    EQUAL(network.SendMessageTCP(0, IP, out, two), 0);
    Plain accepted(listener);
    CHECK(accepted.Read(19) == std::string("\0\0\0\x0b\x04\x03\x02\x01one\0\0\0\x08\0\0\0\0", 19));
    // In.
    Plain connected(SOCK_STREAM);
    connected.Connect(port);
    connected.Send(Frame(one) + Frame(two));
    CHECK(received.Wait(2) == (std::vector<std::string>{one, two}));
    // A datagram is the message alone, both ways.
    Plain datagrams(SOCK_DGRAM);
    const int udp = datagrams.Bind(false);
    EQUAL(network.SendMessageUDP(0x01020304, IP, udp, one), 0);
    CHECK(datagrams.Read(one.size()) == one);
    datagrams.Connect(port);
    datagrams.Send(two);
    CHECK(received.Wait(3)[2] == two);
}

static void what_cannot_be_sent_is_refused() {
    ActixNetWork network(IP, 0);
    EQUAL(network.SendMessageTCP(0, IP, 1, Message(0, "before RunNetWork")), -1);
    const int port = Run(network);
    for (const std::string & bad : {std::string(), std::string("abc"), Message(-1, "the reserved group")}) {
        EQUAL(network.SendMessageTCP(0, IP, port, bad), -1);
        EQUAL(network.SendMessageUDP(0, IP, port, bad), -1);
    }
    for (const int bad : {0, -1, 65536, 1 << 30}) EQUAL(network.SendMessageTCP(0, IP, bad, Message(0, "a")), -1);
    for (const char * bad : {"", "1.2.3", "a b", "127.0.0.1:80", "::1::"})
        EQUAL(network.SendMessageTCP(0, bad, port, Message(0, "a")), -1);
    // The longest datagram by default, and one byte more.
    EQUAL(network.SendMessageUDP(0, IP, port, Message(0, std::string(4096, 0))), 0);
    EQUAL(network.SendMessageUDP(0, IP, port, Message(0, std::string(4097, 0))), -1);
    network.StopNetWork();
    EQUAL(network.SendMessageTCP(0, IP, port, Message(0, "after StopNetWork")), -1);
    EQUAL(network.SendMessageUDP(0, IP, port, Message(0, "after StopNetWork")), -1);
}

static void a_full_queue_returns_minus_2_until_there_is_room() {
    ActixNetWork network(IP, 0);
    EQUAL(network.Set("queue_frames", "1000"), 0);
    EQUAL(network.Set("stale_after", "600s"), 0);
    Run(network);
    Plain listener(SOCK_STREAM);
    const int port = listener.Bind(true);
    const std::string message = Message(0, std::string(10000, 'x'));
    size_t accepted = 0;
    int sent;
    while ((sent = network.SendMessageTCP(0, IP, port, message)) == 0) accepted++;
    EQUAL(sent, -2);
    CHECK(accepted >= 1000);
    // Other nodes do not wait for this one.
    Plain other(SOCK_STREAM);
    EQUAL(network.SendMessageTCP(0, IP, other.Bind(true), message), 0);
    Plain reading(listener);
    std::thread reader([&] { CHECK(reading.Read(Frame(message).size() * (accepted + 1)).size() > 0); });
    SendAll(network, port, message);
    reader.join();
}

static void nothing_is_passed_on_before_run_and_all_of_it_after() {
    ActixNetWork network(IP, 0, 2);
    Receiver received(network);
    EQUAL(network.Init(), 0);
    EQUAL(network.Init(), 0);
    const int port = network.Port();
    Plain sender(SOCK_STREAM);
    sender.Connect(port);
    for (int i = 0; i < 100; i++) sender.Send(Frame(Message(1, std::to_string(i))));
    axt_stats stats;
    do {
        EQUAL(network.Stats(stats), 0);
    } while (stats.received.frames == 0);
    EQUAL(received.Count(), 0);
    EQUAL(network.SendMessageTCP(0, IP, port, Message(0, "a")), -1);
    network.RunNetWork();
    EQUAL(received.Wait(100).size(), 100);
    CHECK(network.StatsJson().find("\"received\"") != std::string::npos);
}

static void a_network_that_never_ran_stops_although_messages_wait() {
    for (int i = 0; i < 20; i++) {
        ActixNetWork network(IP, 0, 1 + i % 2);
        Receiver received(network);
        EQUAL(network.Init(), 0);
        Plain sender(SOCK_STREAM);
        sender.Connect(network.Port());
        sender.Send(Frame(Message(1, "a")));
        axt_stats stats;
        do {
            EQUAL(network.Stats(stats), 0);
        } while (stats.received.frames == 0);
        if (i % 3 != 0) EQUAL(network.Stop(), 0);
        if (i % 3 == 1) {
            EQUAL(network.Init(), -1);
            CHECK(network.LastError() == "the network was stopped");
        }
        EQUAL(received.Count(), 0);
    }
    ActixNetWork unused(IP, 0);
    EQUAL(unused.Stop(), 0);
    Run(unused);
}

static void a_new_network_on_the_same_port_takes_over() {
    ActixNetWork sending(IP, 0);
    Run(sending);
    int port = 0;
    for (int life = 0; life < 10; life++) {
        ActixNetWork receiving(IP, port);
        Receiver received(receiving);
        port = Run(receiving);
        // What was written to the life before is lost, as with PhxPaxos' network, and what still waited comes first.
        const std::string message = Message(life, "hello");
        do {
            EQUAL(sending.SendMessageTCP(life, IP, port, message), 0);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        } while (received.Count() == 0 || received.Wait(1).back() != message);
        for (const std::string & earlier : received.Wait(1)) CHECK(GroupOf(earlier) <= life && RestOf(earlier) == "hello");
        receiving.StopNetWork();
    }
}

static void exceptions_end_at_the_border() {
    struct Strange {};
    ActixNetWork sending(IP, 0), receiving(IP, 0, 2);
    Counter calls;
    TestNode node([&](const char * bytes, const int len) {
        calls.Add();
        if (len == 4) throw Strange();
        if (bytes[4] == 'a') throw std::runtime_error("thrown by this test");
        if (bytes[4] == 'b') throw 7;
    });
    node.Use(receiving);
    Run(sending);
    const int port = Run(receiving);
    for (int i = 0; i < 100; i++)
        for (const char * rest : {"a", "b", "", "c"}) SendAll(sending, port, Message(0, rest));
    calls.Wait(400);
    receiving.StopNetWork();
    EQUAL(receiving.Exceptions(), 300);
    EQUAL(calls.Count(), 400);
}

static void wrong_settings_are_told() {
    ActixNetWork first(IP, 0);
    const int port = Run(first);
    ActixNetWork taken(IP, port);
    EQUAL(taken.Init(), -1);
    CHECK(taken.LastError().find(std::to_string(port)) != std::string::npos);
    bool thrown = false;
    try {
        taken.RunNetWork();
    } catch (const std::runtime_error & error) {
        thrown = std::string(error.what()).find(std::to_string(port)) != std::string::npos;
    }
    CHECK(thrown);
    // It may be tried again.
    first.StopNetWork();
    EQUAL(taken.Init(), 0);
    EQUAL(taken.Set("nodelay", "true"), -1);

    ActixNetWork wrong(IP, 0);
    EQUAL(wrong.Set("queue_framse", "1"), -1);
    CHECK(wrong.LastError().find("queue_framse") != std::string::npos);
    EQUAL(wrong.Set("queue_frames", "0"), 0);
    EQUAL(wrong.Init(), -1);
    CHECK(wrong.LastError().find("queue_frames") != std::string::npos);

    for (const int bad : {-1, 1000000}) {
        ActixNetWork threads(IP, 0, bad);
        EQUAL(threads.Init(), -1);
    }
    ActixNetWork nowhere("not an address", 0);
    EQUAL(nowhere.Init(), -1);
    ActixNetWork missing(IP, 0, 1, "/no/such/file.toml");
    EQUAL(missing.Init(), -1);
    CHECK(missing.LastError().find("/no/such/file.toml") != std::string::npos);
    ActixNetWork both(IP, 0, 1, "/no/such/file.toml", true);
    EQUAL(both.Init(), -1);
}

static void settings_come_from_a_file() {
    char path[] = "/tmp/actix_network_XXXXXX";
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    std::ofstream(path) << "max_frame = 100\nqueue_bytes = \"1MiB\"\n";
    ActixNetWork network(IP, 0, 0, path);
    const int port = Run(network);
    unlink(path);
    // 8 bytes are the length and the group.
    EQUAL(network.SendMessageTCP(0, IP, port, Message(0, std::string(92, 0))), 0);
    EQUAL(network.SendMessageTCP(0, IP, port, Message(0, std::string(93, 0))), -1);
}

static void sigpipe_stays_at_its_default() {
    struct sigaction action;
    ActixNetWork network(IP, 0);
    EQUAL(network.Set("redial_first", "1ms"), 0);
    EQUAL(network.Set("redial_max", "1ms"), 0);
    Run(network);
    Plain listener(SOCK_STREAM);
    const int port = listener.Bind(true);
    // The other side resets each connection while this one writes.
    std::atomic<bool> done(false);
    std::thread sender([&] {
        const std::string message = Message(0, std::string(100000, 'x'));
        while (!done.load()) network.SendMessageTCP(0, IP, port, message);
    });
    for (int i = 0; i < 50; i++) {
        Plain accepted(listener);
        accepted.Read(1000);
        accepted.Reset();
    }
    done.store(true);
    sender.join();
    CHECK(sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL);
}

// More addresses than have a place in the table of peers.
static void any_number_of_nodes_can_be_sent_to() {
    ActixNetWork network(IP, 0);
    Receiver received(network);
    const int port = Run(network);
    const int count = 600;
    for (int i = 0; i < count; i++) {
        const std::string ip = "127.0." + std::to_string(1 + i / 200) + "." + std::to_string(1 + i % 200);
        // Nobody listens at most of them, and the messages wait.
        EQUAL(network.SendMessageTCP(0, ip, port, Message(i, "a")), 0);
        EQUAL(network.SendMessageTCP(0, IP, port, Message(i, "b")), 0);
    }
    received.Wait(count);
}

// What a message makes does not end with the network that brought it.
static void a_network_that_a_message_makes_outlives_the_one_of_the_message() {
    ActixNetWork sending(IP, 0);
    Run(sending);
    std::unique_ptr<ActixNetWork> made;
    Counter done;
    {
        ActixNetWork first(IP, 0);
        TestNode node([&](const char *, int) {
            made.reset(new ActixNetWork(IP, 0));
            EQUAL(made->Init(), 0);
            done.Add();
        });
        node.Use(first);
        SendAll(sending, Run(first), Message(0, "make one"));
        done.Wait(1);
        first.StopNetWork();
    }
    Receiver received(*made);
    made->RunNetWork();
    SendAll(sending, made->Port(), Message(0, "still here"));
    EQUAL(received.Wait(1).size(), 1);
}

struct Served {
    axt_context * context;
    axt_transport transport;
    Counter count;
};

static void Serve(void * user, uint32_t, const axt_sender *, const uint8_t *, size_t) {
    Served * served = static_cast<Served *>(user);
    CHECK(axt_stop(served->context, served->transport, 0, nullptr, nullptr) == AXT_IN_CALLBACK);
    served->count.Add();
}

// What the class uses of the C functions, and in other orders than it does.
static void callbacks_on_the_receiving_thread_are_registered_before_and_after_bind() {
    Served served;
    axt_error error;
    axt_transport other;
    char address[64];
    axt_peer peer;
    CHECK(axt_context_new(&served.context, &error) == AXT_OK);
    axt_context * context = served.context;
    CHECK(axt_transport_new(context, axt_config(), &served.transport, &error) == AXT_OK);
    CHECK(axt_transport_new(context, axt_config(), &other, &error) == AXT_OK);
    CHECK(axt_register(context, served.transport, 1, Serve, &served, 0, &error) == AXT_OK);
    CHECK(axt_register(context, served.transport, 1, Serve, &served, 0, &error) == AXT_GROUP_TAKEN);
    CHECK(axt_bind(context, other, "127.0.0.1:0", &error) == AXT_OK);
    CHECK(axt_address(context, other, address, sizeof address, &error) == AXT_OK);
    // The first try fails, and leaves nothing behind.
    CHECK(axt_bind(context, served.transport, address, &error) == AXT_IN_USE);
    CHECK(axt_bind(context, served.transport, "127.0.0.1:0", &error) == AXT_OK);
    CHECK(axt_register(context, served.transport, 2, Serve, &served, 0, &error) == AXT_OK);
    CHECK(axt_register(context, served.transport, 2, Serve, &served, 1, &error) == AXT_GROUP_TAKEN);
    CHECK(axt_register_all(context, served.transport, Serve, &served, 0, &error) == AXT_OK);
    CHECK(axt_address(context, served.transport, address, sizeof address, &error) == AXT_OK);
    CHECK(axt_peer_get(context, other, address, &peer, &error) == AXT_OK);
    for (uint32_t group = 1; group < 5; group++)
        CHECK(axt_send(context, peer, group, "a", 1, nullptr, 5000, &error) == AXT_OK);
    served.count.Wait(4);
    CHECK(axt_stop(context, served.transport, 0, nullptr, &error) == AXT_OK);
    CHECK(axt_register(context, served.transport, 3, Serve, &served, 0, &error) == AXT_STOPPED);
    CHECK(axt_context_free(context, &error) == AXT_OK);
}

int main() {
#define RUN(test) (std::printf("%s\n", #test), std::fflush(stdout), test())
    RUN(messages_arrive_in_the_order_of_their_connection_and_for_their_groups);
    RUN(messages_of_all_lengths_arrive_as_they_were);
    RUN(large_value_mode_takes_50_mib);
    RUN(the_bytes_on_the_wire_are_those_of_phxpaxos);
    RUN(what_cannot_be_sent_is_refused);
    RUN(a_full_queue_returns_minus_2_until_there_is_room);
    RUN(nothing_is_passed_on_before_run_and_all_of_it_after);
    RUN(a_network_that_never_ran_stops_although_messages_wait);
    RUN(a_new_network_on_the_same_port_takes_over);
    RUN(exceptions_end_at_the_border);
    RUN(wrong_settings_are_told);
    RUN(settings_come_from_a_file);
    RUN(sigpipe_stays_at_its_default);
    RUN(any_number_of_nodes_can_be_sent_to);
    RUN(a_network_that_a_message_makes_outlives_the_one_of_the_message);
    RUN(callbacks_on_the_receiving_thread_are_registered_before_and_after_bind);
    return 0;
}
