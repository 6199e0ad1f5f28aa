// A plain network of the kind that PhxPaxos has by default, to compare ActixNetWork with: a queue with a mutex and a pipe
// that wakes the writing thread, one `send` for each message, one buffer and one callback for each received message.
// TCP only, and no more than the comparison needs.
#ifndef PLAIN_NETWORK_HPP
#define PLAIN_NETWORK_HPP

#include "phxpaxos/network.h"

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <map>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

class PlainNetWork : public phxpaxos::NetWork {
public:
    // How a connection is read.
    enum Reads {
        // The length, and then the message, as PhxPaxos does.
        EACH,
        // Up to 64 KiB at a time, which PhxPaxos does not.
        MANY
    };

    explicit PlainNetWork(const Reads reads) : m_reads(reads), m_stop(false) {}
    virtual ~PlainNetWork() { StopNetWork(); }

    virtual void RunNetWork() {
        m_listener = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address = Local(0);
        socklen_t len = sizeof address;
        Check(bind(m_listener, reinterpret_cast<sockaddr *>(&address), len) == 0);
        Check(listen(m_listener, 16) == 0);
        Check(getsockname(m_listener, reinterpret_cast<sockaddr *>(&address), &len) == 0);
        m_port = ntohs(address.sin_port);
        Check(pipe2(m_wake, O_NONBLOCK) == 0);
        Check(pipe2(m_end, O_NONBLOCK) == 0);
        m_writer = std::thread([this] { Write(); });
        m_reader = std::thread([this] { Read(); });
    }

    virtual void StopNetWork() {
        if (m_stop.exchange(true) || !m_writer.joinable()) return;
        Notify(m_wake[1]);
        Notify(m_end[1]);
        m_writer.join();
        m_reader.join();
        for (const int fd : {m_listener, m_wake[0], m_wake[1], m_end[0], m_end[1]}) close(fd);
        for (auto & entry : m_peers) close(entry.second->fd);
    }

    virtual int SendMessageTCP(const int, const std::string & sIp, const int iPort, const std::string & sMessage) {
        Peer & peer = Find(sIp, iPort);
        {
            std::lock_guard<std::mutex> lock(peer.lock);
            if (peer.queue.size() >= 10240) return -2;
            peer.queue.push_back(std::unique_ptr<std::string>(new std::string(sMessage)));
        }
        Notify(m_wake[1]);
        return 0;
    }

    virtual int SendMessageUDP(const int, const std::string &, const int, const std::string &) { return -1; }

    int Port() const { return m_port; }

private:
    struct Peer {
        std::mutex lock;
        std::deque<std::unique_ptr<std::string>> queue;
        int fd;
        // What the system has not taken yet of the message that is being written.
        std::string unsent;
        bool waits;
    };

    struct Connection {
        explicit Connection(const int accepted) : fd(accepted), filled(0) {}
        const int fd;
        std::vector<char> buffer;
        size_t filled;
    };

    static void Check(const bool fact) {
        if (!fact) std::abort();
    }

    static sockaddr_in Local(const int port) {
        sockaddr_in address;
        std::memset(&address, 0, sizeof address);
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return address;
    }

    static void Notify(const int pipe) {
        const ssize_t n = write(pipe, "a", 1);
        // A full pipe wakes the thread as well.
        Check(n == 1 || errno == EAGAIN);
    }

    Peer & Find(const std::string & sIp, const int iPort) {
        std::lock_guard<std::mutex> lock(m_finding);
        std::unique_ptr<Peer> & peer = m_peers[std::make_pair(sIp, iPort)];
        if (!peer) {
            peer.reset(new Peer);
            peer->fd = socket(AF_INET, SOCK_STREAM, 0);
            peer->waits = false;
            const sockaddr_in address = Local(iPort);
            Check(connect(peer->fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
            SetUp(peer->fd);
        }
        return *peer;
    }

    static void SetUp(const int fd) {
        const int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    }

    static void Watch(const int epoll, const int fd, const uint32_t events, void * data, const int how) {
        epoll_event event;
        event.events = events;
        event.data.ptr = data;
        Check(epoll_ctl(epoll, how, fd, &event) == 0);
    }

    // Writes what is in the queue, until the system takes no more.
    void WriteQueue(const int epoll, Peer & peer) {
        for (;;) {
            if (peer.unsent.empty()) {
                std::unique_ptr<std::string> message;
                {
                    std::lock_guard<std::mutex> lock(peer.lock);
                    if (peer.queue.empty()) break;
                    message = std::move(peer.queue.front());
                    peer.queue.pop_front();
                }
                const uint32_t len = htonl(static_cast<uint32_t>(message->size() + 4));
                peer.unsent.assign(reinterpret_cast<const char *>(&len), 4);
                peer.unsent.append(*message);
            }
            const ssize_t n = send(peer.fd, peer.unsent.data(), peer.unsent.size(), MSG_NOSIGNAL);
            if (n < 0) {
                if (errno != EAGAIN) return;
                if (!peer.waits) Watch(epoll, peer.fd, EPOLLOUT, &peer, EPOLL_CTL_ADD);
                peer.waits = true;
                return;
            }
            peer.unsent.erase(0, static_cast<size_t>(n));
        }
        if (peer.waits) epoll_ctl(epoll, EPOLL_CTL_DEL, peer.fd, nullptr);
        peer.waits = false;
    }

    void Write() {
        const int epoll = epoll_create1(0);
        Watch(epoll, m_wake[0], EPOLLIN, nullptr, EPOLL_CTL_ADD);
        while (!m_stop.load()) {
            epoll_event events[16];
            char woken[4096];
            const int n = epoll_wait(epoll, events, 16, -1);
            for (int i = 0; i < n; i++)
                if (events[i].data.ptr == nullptr) Check(read(m_wake[0], woken, sizeof woken) > 0);
            std::vector<Peer *> peers;
            {
                std::lock_guard<std::mutex> lock(m_finding);
                for (auto & entry : m_peers) peers.push_back(entry.second.get());
            }
            for (Peer * peer : peers) WriteQueue(epoll, *peer);
        }
        close(epoll);
    }

    // Reads until there is no more. Returns false at the end.
    bool ReadEach(Connection & from) {
        for (;;) {
            size_t wanted = 4;
            if (from.filled >= 4) wanted = LengthOf(from.buffer.data());
            if (from.buffer.size() < wanted) from.buffer.resize(wanted);
            const ssize_t n = recv(from.fd, from.buffer.data() + from.filled, wanted - from.filled, 0);
            if (n <= 0) return n < 0 && errno == EAGAIN;
            from.filled += static_cast<size_t>(n);
            if (from.filled > 4 && from.filled == wanted) {
                OnReceiveMessage(from.buffer.data() + 4, static_cast<int>(wanted - 4));
                from.filled = 0;
            }
        }
    }

    bool ReadMany(Connection & from) {
        from.buffer.resize(64 << 10);
        for (;;) {
            const ssize_t n = recv(from.fd, from.buffer.data() + from.filled, from.buffer.size() - from.filled, 0);
            if (n <= 0) return n < 0 && errno == EAGAIN;
            from.filled += static_cast<size_t>(n);
            size_t at = 0;
            while (from.filled - at >= 4) {
                const size_t len = LengthOf(from.buffer.data() + at);
                if (from.filled - at < len) break;
                OnReceiveMessage(from.buffer.data() + at + 4, static_cast<int>(len - 4));
                at += len;
            }
            std::memmove(from.buffer.data(), from.buffer.data() + at, from.filled - at);
            from.filled -= at;
        }
    }

    static size_t LengthOf(const char * bytes) {
        uint32_t len;
        std::memcpy(&len, bytes, 4);
        return ntohl(len);
    }

    void Read() {
        const int epoll = epoll_create1(0);
        std::vector<std::unique_ptr<Connection>> connections;
        Watch(epoll, m_listener, EPOLLIN, nullptr, EPOLL_CTL_ADD);
        Watch(epoll, m_end[0], EPOLLIN, this, EPOLL_CTL_ADD);
        while (!m_stop.load()) {
            epoll_event events[16];
            const int n = epoll_wait(epoll, events, 16, -1);
            for (int i = 0; i < n; i++) {
                void * data = events[i].data.ptr;
                if (data == this) continue;
                if (data == nullptr) {
                    connections.emplace_back(new Connection(accept(m_listener, nullptr, nullptr)));
                    Connection & accepted = *connections.back();
                    SetUp(accepted.fd);
                    Watch(epoll, accepted.fd, EPOLLIN, &accepted, EPOLL_CTL_ADD);
                    continue;
                }
                Connection & from = *static_cast<Connection *>(data);
                if (!(m_reads == EACH ? ReadEach(from) : ReadMany(from)))
                    epoll_ctl(epoll, EPOLL_CTL_DEL, from.fd, nullptr);
            }
        }
        for (auto & connection : connections) close(connection->fd);
        close(epoll);
    }

    const Reads m_reads;
    std::atomic<bool> m_stop;
    int m_listener, m_port, m_wake[2], m_end[2];
    std::thread m_writer, m_reader;
    std::mutex m_finding;
    std::map<std::pair<std::string, int>, std::unique_ptr<Peer>> m_peers;
};

#endif
