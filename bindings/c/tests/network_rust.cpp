// ActixNetWork and a node in Rust, in a process of its own, exchange messages both ways, byte for byte. The argument is
// the program examples/other_side.
#include "check.hpp"

#include <set>
#include <sys/wait.h>

// The other side, which sends everything back.
class OtherSide {
public:
    OtherSide(const char * program, const int port) {
        int in[2], out[2];
        CHECK(pipe(in) == 0 && pipe(out) == 0);
        m_pid = fork();
        CHECK(m_pid >= 0);
        if (m_pid == 0) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
            const std::string to = std::string(IP) + ":" + std::to_string(port);
            execl(program, program, to.c_str(), static_cast<char *>(nullptr));
            _exit(127);
        }
        close(in[0]);
        close(out[1]);
        m_in = in[1];
        std::string address;
        char byte;
        while (read(out[0], &byte, 1) == 1 && byte != '\n') address += byte;
        close(out[0]);
        const size_t colon = address.rfind(':');
        CHECK(colon != std::string::npos);
        m_port = std::atoi(address.c_str() + colon + 1);
    }

    ~OtherSide() {
        int status;
        close(m_in);
        CHECK(waitpid(m_pid, &status, 0) == m_pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }

    int Port() const { return m_port; }

private:
    pid_t m_pid;
    int m_in, m_port;
};

// Every byte is another one than in the message before.
static std::string Bytes(const int seed, const size_t len) {
    std::string bytes(len, 0);
    uint32_t state = static_cast<uint32_t>(seed) * 2654435761u + 1;
    for (char & byte : bytes) {
        state = state * 1664525u + 1013904223u;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

static void over_tcp_everything_comes_back_in_order(const char * program) {
    ActixNetWork network(IP, 0);
    Receiver received(network);
    const OtherSide other(program, Run(network));
    std::vector<std::string> sent;
    for (int i = 0; i < 5000; i++) sent.push_back(Message(1, Bytes(i, static_cast<size_t>(i % 700))));
    for (int i = 0; i < 3; i++) sent.push_back(Message(1, Bytes(i, (10 << 20) - 4)));
    for (const std::string & message : sent) SendAll(network, other.Port(), message);
    CHECK(received.Wait(static_cast<long>(sent.size())) == sent);
}

static void groups_keep_their_numbers(const char * program) {
    ActixNetWork network(IP, 0);
    Receiver received(network);
    const OtherSide other(program, Run(network));
    std::multiset<std::string> sent;
    for (const int group : {0, 1, 199, 0x01020304, 0x7fffffff, -2}) {
        sent.insert(Message(group, Bytes(group, 100)));
        SendAll(network, other.Port(), Message(group, Bytes(group, 100)));
    }
    const std::vector<std::string> back = received.Wait(6);
    CHECK(std::multiset<std::string>(back.begin(), back.end()) == sent);
}

static void over_udp_every_length_comes_back(const char * program) {
    ActixNetWork network(IP, 0);
    Receiver received(network);
    const OtherSide other(program, Run(network));
    // One after another: datagrams keep no order.
    long count = 0;
    for (const size_t len : {0, 1, 3, 4, 64, 1400, 1473, 4095, 4096}) {
        const std::string message = Message(5, Bytes(static_cast<int>(len), len));
        EQUAL(network.SendMessageUDP(5, IP, other.Port(), message), 0);
        CHECK(received.Wait(++count).back() == message);
    }
}

int main(int argc, char ** argv) {
    CHECK(argc == 2);
    over_tcp_everything_comes_back_in_order(argv[1]);
    groups_keep_their_numbers(argv[1]);
    over_udp_every_length_comes_back(argv[1]);
    std::printf("a node in Rust sends back what ActixNetWork sends, over TCP and UDP\n");
    return 0;
}
