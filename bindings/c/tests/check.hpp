// What the tests in C++ share. Tests wait for facts: a Counter counts them.
#ifndef CHECK_HPP
#define CHECK_HPP

#include "actix_transport_phxpaxos.hpp"
#include "phxpaxos/node.h"

#include <arpa/inet.h>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define CHECK(fact)                                                                        \
    do {                                                                                   \
        if (!(fact)) {                                                                     \
            std::fprintf(stderr, "%s:%d: this must hold: %s\n", __FILE__, __LINE__, #fact); \
            std::abort();                                                                  \
        }                                                                                  \
    } while (0)

#define EQUAL(left, right)                                                                             \
    do {                                                                                               \
        const long long left_ = (left), right_ = (right);                                              \
        if (left_ != right_) {                                                                         \
            std::fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #left, left_, right_); \
            std::abort();                                                                              \
        }                                                                                              \
    } while (0)

using actix_transport::ActixNetWork;

static const char * const IP = "127.0.0.1";

// Counts facts, and lets others wait for them.
class Counter {
public:
    Counter() : m_count(0) {}

    void Add() {
        std::lock_guard<std::mutex> lock(m_lock);
        m_count++;
        m_changed.notify_all();
    }

    long Count() {
        std::lock_guard<std::mutex> lock(m_lock);
        return m_count;
    }

    // The limit is for a test that hangs.
    void Wait(const long count) {
        std::unique_lock<std::mutex> lock(m_lock);
        CHECK(m_changed.wait_for(lock, std::chrono::seconds(120), [&] { return m_count >= count; }));
    }

private:
    std::mutex m_lock;
    std::condition_variable m_changed;
    long m_count;
};

// A node that gives each message to a function.
class TestNode : public phxpaxos::Node {
public:
    typedef std::function<void(const char *, int)> OnMessage;

    explicit TestNode(const OnMessage & onMessage) : m_onMessage(onMessage) {}

    virtual int Propose(const int, const std::string &, uint64_t &, phxpaxos::SMCtx *) { return -1; }

protected:
    virtual int OnReceiveMessage(const char * pcMessage, const int iMessageLen) {
        m_onMessage(pcMessage, iMessageLen);
        return 0;
    }

private:
    const OnMessage m_onMessage;
};

// A node that keeps its messages. It ends after its network has stopped.
class Receiver {
public:
    explicit Receiver(ActixNetWork & network)
        : m_network(network), m_node([this](const char * bytes, const int len) {
              {
                  std::lock_guard<std::mutex> lock(m_lock);
                  m_messages.push_back(std::string(bytes, static_cast<size_t>(len)));
              }
              m_count.Add();
          }) {
        m_node.Use(network);
    }

    ~Receiver() { m_network.StopNetWork(); }

    std::vector<std::string> Wait(const long count) {
        m_count.Wait(count);
        std::lock_guard<std::mutex> lock(m_lock);
        return m_messages;
    }

    long Count() { return m_count.Count(); }

private:
    std::mutex m_lock;
    std::vector<std::string> m_messages;
    Counter m_count;
    ActixNetWork & m_network;
    TestNode m_node;
};

// Returns a message as PhxPaxos makes it: the group's bytes as they are in memory, and the rest.
inline std::string Message(const int group, const std::string & rest) {
    return std::string(reinterpret_cast<const char *>(&group), sizeof group) + rest;
}

inline int GroupOf(const std::string & message) {
    int group;
    CHECK(message.size() >= sizeof group);
    std::memcpy(&group, message.data(), sizeof group);
    return group;
}

inline std::string RestOf(const std::string & message) { return message.substr(sizeof(int)); }

// Sends, and waits while the queue is full.
inline void SendAll(ActixNetWork & network, const int port, const std::string & message) {
    int sent;
    while ((sent = network.SendMessageTCP(0, IP, port, message)) == -2) std::this_thread::yield();
    EQUAL(sent, 0);
}

// A plain socket, with nothing of the library.
class Plain {
public:
    // Type is SOCK_STREAM or SOCK_DGRAM.
    explicit Plain(const int type) : m_fd(socket(AF_INET, type | SOCK_CLOEXEC, 0)) { CHECK(m_fd >= 0); }

    // Takes a connection.
    explicit Plain(const Plain & listener) : m_fd(accept(listener.m_fd, nullptr, nullptr)) { CHECK(m_fd >= 0); }

    ~Plain() { close(m_fd); }

    // Returns the port. Listens if it is a stream.
    int Bind(const bool listens) {
        sockaddr_in address = Local(0);
        socklen_t len = sizeof address;
        CHECK(bind(m_fd, reinterpret_cast<sockaddr *>(&address), len) == 0);
        CHECK(getsockname(m_fd, reinterpret_cast<sockaddr *>(&address), &len) == 0);
        if (listens) CHECK(listen(m_fd, 16) == 0);
        return ntohs(address.sin_port);
    }

    void Connect(const int port) {
        const sockaddr_in address = Local(port);
        CHECK(connect(m_fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
    }

    void Send(const std::string & bytes) {
        CHECK(send(m_fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    }

    // Waits for as many bytes, or for one datagram that has as many.
    std::string Read(const size_t len) {
        std::string bytes(len + 1, 0);
        size_t filled = 0;
        while (filled < len) {
            const ssize_t n = recv(m_fd, &bytes[filled], len - filled, 0);
            CHECK(n > 0);
            filled += static_cast<size_t>(n);
        }
        bytes.resize(len);
        return bytes;
    }

    // Closes with a reset, so that whoever writes fails.
    void Reset() {
        const linger none = {1, 0};
        CHECK(setsockopt(m_fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0);
    }

private:
    static sockaddr_in Local(const int port) {
        sockaddr_in address;
        std::memset(&address, 0, sizeof address);
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return address;
    }

    Plain & operator=(const Plain &);

    const int m_fd;
};

// Starts a network on a port that the system chooses.
inline int Run(ActixNetWork & network) {
    network.RunNetWork();
    CHECK(network.Port() > 0);
    return network.Port();
}

#endif
