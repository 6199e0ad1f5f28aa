// A network for PhxPaxos, made of actix-transport.
//
// ActixNetWork is given to PhxPaxos in Options::poNetWork, and takes the place of its default network. On the wire it
// is the same: nodes with the one and with the other network form one cluster. Header only, C++11; needs
// phxpaxos/network.h and the library libactix_transport_c.
//
//     actix_transport::ActixNetWork oNetWork("10.0.0.1", 11111);
//     if (oNetWork.Init() != 0) { puts(oNetWork.LastError().c_str()); return 1; }
//     oOptions.poNetWork = &oNetWork;
//     ret = phxpaxos::Node::RunNode(oOptions, poNode);
//     ...
//     oNetWork.StopNetWork();
//     delete poNode;
//
// Threads. All functions may be called from any thread, and by several at once, but for the constructor and the
// destructor. OnReceiveMessage is called on a thread of the library, for one message after another, and gets the
// library's buffer, which is not copied. It is the thread that receives, as with PhxPaxos' default network: nothing is
// received meanwhile. PhxPaxos' OnReceiveMessage only puts the message into a queue. The messages of one connection come
// in order, whatever their groups.
#ifndef ACTIX_TRANSPORT_PHXPAXOS_HPP
#define ACTIX_TRANSPORT_PHXPAXOS_HPP

#include "actix_transport.h"
#include "phxpaxos/network.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

namespace actix_transport {

// Handles of peers by their addresses. Looking one up takes no lock. An address stays until the table ends; when there
// is no more room, further addresses are not taken.
class PeerTable {
public:
    // How many addresses it takes. A cluster of PhxPaxos has some ten nodes.
    static const size_t MAX_PEERS = 512;

    PeerTable() : m_count(0) {
        for (size_t i = 0; i < SLOTS; i++) m_slots[i].store(nullptr, std::memory_order_relaxed);
    }

    ~PeerTable() {
        for (size_t i = 0; i < SLOTS; i++) delete m_slots[i].load(std::memory_order_relaxed);
    }

    // Returns the handle, or one with the id 0.
    axt_peer Find(const std::string & sIp, const int iPort) const {
        for (size_t slot = Hash(sIp, iPort);; slot++) {
            const Row * row = m_slots[slot % SLOTS].load(std::memory_order_acquire);
            if (row == nullptr) return axt_peer();
            if (row->iPort == iPort && row->sIp == sIp) return row->peer;
        }
    }

    // Returns false if there is no room, or the address is there already.
    bool Add(const std::string & sIp, const int iPort, const axt_peer peer) {
        std::lock_guard<std::mutex> lock(m_adding);
        if (m_count == MAX_PEERS || Find(sIp, iPort).id != 0) return false;
        size_t slot = Hash(sIp, iPort);
        while (m_slots[slot % SLOTS].load(std::memory_order_relaxed) != nullptr) slot++;
        m_slots[slot % SLOTS].store(new Row(sIp, iPort, peer), std::memory_order_release);
        m_count++;
        return true;
    }

private:
    // At least half of the slots stay empty, so a search ends soon.
    static const size_t SLOTS = 2 * MAX_PEERS;

    struct Row {
        Row(const std::string & ip, const int port, const axt_peer handle) : sIp(ip), iPort(port), peer(handle) {}
        const std::string sIp;
        const int iPort;
        const axt_peer peer;
    };

    static size_t Hash(const std::string & sIp, const int iPort) {
        return std::hash<std::string>()(sIp) + 31 * static_cast<size_t>(iPort);
    }

    PeerTable(const PeerTable &);
    PeerTable & operator=(const PeerTable &);

    std::atomic<const Row *> m_slots[SLOTS];
    std::mutex m_adding;
    size_t m_count;
};

class ActixNetWork : public phxpaxos::NetWork {
public:
    // Opens nothing yet.
    //
    // sListenIp, iListenPort: where to listen, over TCP and UDP. With port 0 the system chooses one; see Port.
    //
    // iIOThreadCount: how many threads receive, and how many send, as Options::iIOThreadCount. 0 leaves that to the
    // setting `placement`.
    //
    // sTomlFile: a file with settings, or none. What the file does not say has PhxPaxos' defaults. Its `listen` and
    // `peers` are not used.
    //
    // bIsLargeValueMode: begins with the settings for messages of many megabytes, as Options::bIsLargeValueMode. Not
    // together with a file: Init fails. Such a file has the settings itself.
    ActixNetWork(const std::string & sListenIp, const int iListenPort, const int iIOThreadCount = 1,
                 const std::string & sTomlFile = std::string(), const bool bIsLargeValueMode = false)
        : m_context(nullptr),
          m_config(),
          m_transport(),
          m_sListen(Address(sListenIp, iListenPort)),
          m_state(NEW),
          m_exceptions(0),
          m_handled(0),
          m_locks(new Locks) {
        axt_error error;
        if (axt_context_new(&m_context, &error) != AXT_OK) {
            m_sBroken = error.text;
            return;
        }
        axt_code code;
        if (sTomlFile.empty()) {
            code = axt_config_new(m_context, bIsLargeValueMode, &m_config, &error);
        } else if (bIsLargeValueMode) {
            m_sBroken = "bIsLargeValueMode cannot be combined with a file of settings";
            return;
        } else {
            code = axt_config_file(m_context, sTomlFile.c_str(), &m_config, &error);
        }
        if (code == AXT_OK && iIOThreadCount != 0) {
            const std::string count = std::to_string(iIOThreadCount);
            const std::string placement = "{ dedicated = { readers = " + count + ", writers = " + count + " } }";
            code = axt_config_set(m_context, m_config, "placement", placement.c_str(), &error);
        }
        if (code != AXT_OK) m_sBroken = error.text;
    }

    // Stops the network if it runs. Not in OnReceiveMessage, which would wait for itself: the process ends then. Call
    // StopNetWork before the Node is deleted that this network belongs to.
    //
    // In a forked process it does nothing, and the memory stays: threads that are not there may hold locks.
    virtual ~ActixNetWork() {
        // Any function says whether the process was forked, before it takes a lock.
        if (m_context != nullptr && axt_peer_free(m_context, axt_peer(), nullptr) == AXT_FORKED) return;
        const std::unique_ptr<Locks> locks(m_locks);
        if (m_context == nullptr) return;
        Open(NEW, STOPPED);
        Open(BOUND, STOPPED);
        axt_error error;
        const axt_code code = axt_context_free(m_context, &error);
        if (code != AXT_OK) std::terminate();
        m_handled.load(std::memory_order_acquire);
    }

    // Sets a setting by its name, such as ("max_datagram", "8192"), before Init. Returns 0, or -1: see LastError.
    int Set(const std::string & sName, const std::string & sValue) {
        std::lock_guard<std::mutex> lock(m_locks->changing);
        if (!m_sBroken.empty()) return Fail(m_sBroken.c_str());
        if (m_state.load(std::memory_order_acquire) != NEW) return Fail("settings must be made before Init");
        axt_error error;
        if (axt_config_set(m_context, m_config, sName.c_str(), sValue.c_str(), &error) != AXT_OK) return Fail(error.text);
        return 0;
    }

    // Opens the port. Messages that come now wait for RunNetWork. RunNetWork does this, too, but only here can a
    // program see that the port is in use, or that a setting is wrong, before it runs a Node.
    //
    // Returns 0, or -1: see LastError. After an error it may be called again, unless the constructor's arguments are
    // at fault.
    int Init() {
        std::lock_guard<std::mutex> lock(m_locks->changing);
        if (!m_sBroken.empty()) return Fail(m_sBroken.c_str());
        if (m_state.load(std::memory_order_acquire) == STOPPED) return Fail("the network was stopped");
        if (m_state.load(std::memory_order_acquire) != NEW) return 0;
        axt_error error;
        axt_transport transport = axt_transport();
        axt_code code = axt_transport_new(m_context, m_config, &transport, &error);
        if (code == AXT_OK) code = axt_register_all(m_context, transport, &ActixNetWork::Receive, this, 0, &error);
        // A message may come before the next line. It waits as one that comes after it.
        if (code == AXT_OK) code = axt_bind(m_context, transport, m_sListen.c_str(), &error);
        if (code != AXT_OK) {
            if (transport.id != 0) axt_transport_free(m_context, transport, nullptr);
            return Fail(error.text);
        }
        {
            std::lock_guard<std::mutex> shown(m_locks->showing);
            m_transport = transport;
        }
        m_state.store(BOUND, std::memory_order_release);
        return 0;
    }

    // Begins to send, and to call OnReceiveMessage. Throws std::runtime_error if the port could not be opened: its
    // type leaves no other way to say so.
    virtual void RunNetWork() {
        if (Init() != 0) throw std::runtime_error("ActixNetWork: " + LastError());
        Open(BOUND, RUNNING);
    }

    // Stops, as Stop does. An error is in LastError.
    virtual void StopNetWork() { Stop(); }

    // Closes the port and waits until OnReceiveMessage has returned everywhere. It is not called any more when this
    // returns. What is queued is dropped. A network that was stopped cannot run again: make a new one. One that was not
    // yet opened stays as it is.
    //
    // Two networks whose OnReceiveMessage each stop the other one wait for each other for ever.
    //
    // Returns 0, or -1: this is OnReceiveMessage, which would wait for itself. Nothing has been stopped then.
    int Stop() {
        std::unique_lock<std::mutex> lock(m_locks->changing);
        // Messages that wait for RunNetWork would wait for ever. No other is with OnReceiveMessage.
        Open(BOUND, STOPPED);
        const axt_transport transport = m_transport;
        lock.unlock();
        if (transport.id == 0) return 0;
        axt_error error;
        const axt_code code = axt_stop(m_context, transport, 0, nullptr, &error);
        m_handled.load(std::memory_order_acquire);
        lock.lock();
        if (code != AXT_OK) return Fail(error.text);
        m_state.store(STOPPED, std::memory_order_release);
        return 0;
    }

    // Queues a message, whose first four bytes are its group, for a node over TCP. They decide, and iGroupIdx is not
    // looked at. Never blocks. Copies the bytes once.
    //
    // Returns 0 if it was queued. -2: the node's queue is full. -1: anything else, such as a message of less than four
    // bytes or longer than a frame, an address that is none, or a network that does not run.
    virtual int SendMessageTCP(const int iGroupIdx, const std::string & sIp, const int iPort,
                               const std::string & sMessage) {
        (void)iGroupIdx;
        return Send(false, sIp, iPort, sMessage);
    }

    // Sends a message as a datagram; see SendMessageTCP. -2: the queue of datagrams is full. -1 also if it is longer
    // than the setting `max_datagram` and 4 bytes: set that if Options::iUDPMaxSize is above 4096.
    virtual int SendMessageUDP(const int iGroupIdx, const std::string & sIp, const int iPort,
                               const std::string & sMessage) {
        (void)iGroupIdx;
        return Send(true, sIp, iPort, sMessage);
    }

    // The same for releases of PhxPaxos whose network.h has no iGroupIdx.
    virtual int SendMessageTCP(const std::string & sIp, const int iPort, const std::string & sMessage) {
        return Send(false, sIp, iPort, sMessage);
    }

    virtual int SendMessageUDP(const std::string & sIp, const int iPort, const std::string & sMessage) {
        return Send(true, sIp, iPort, sMessage);
    }

    // Returns the port that it listens on. 0 before Init.
    int Port() const {
        char text[64];
        const axt_transport transport = Bound();
        if (transport.id == 0 || axt_address(m_context, transport, text, sizeof text, nullptr) != AXT_OK) return 0;
        const std::string address = text;
        return std::atoi(address.c_str() + address.rfind(':') + 1);
    }

    // Returns what went wrong last in Set, Init, RunNetWork, Stop or StopNetWork; empty if nothing did.
    std::string LastError() const {
        std::lock_guard<std::mutex> lock(m_locks->showing);
        return m_sLastError;
    }

    // Reads the main counters. Also after the network has stopped. Returns 0, or -1 before Init.
    int Stats(axt_stats & oStats) const {
        const axt_transport transport = Bound();
        return transport.id != 0 && axt_stats_get(m_context, transport, &oStats, nullptr) == AXT_OK ? 0 : -1;
    }

    // Returns all counters as JSON. Empty before Init.
    std::string StatsJson() const {
        char * json;
        const axt_transport transport = Bound();
        if (transport.id == 0 || axt_stats_json(m_context, transport, &json, nullptr) != AXT_OK) return std::string();
        const std::unique_ptr<char, void (*)(char *)> owned(json, axt_string_free);
        return json;
    }

    // Returns how many exceptions OnReceiveMessage has thrown. They end here, and the next message follows.
    uint64_t Exceptions() const { return m_exceptions.load(std::memory_order_relaxed); }

private:
    enum State { NEW, BOUND, RUNNING, STOPPED };

    // How many bytes of a message are its group.
    static const size_t GROUP_BYTES = 4;

    ActixNetWork(const ActixNetWork &);
    ActixNetWork & operator=(const ActixNetWork &);

    static std::string Address(const std::string & sIp, const int iPort) {
        const bool six = sIp.find(':') != std::string::npos && sIp[0] != '[';
        return (six ? "[" + sIp + "]" : sIp) + ":" + std::to_string(iPort);
    }

    // Called by the library for each message. No exception may leave it.
    static void Receive(void * user, uint32_t, const axt_sender *, const uint8_t * bytes, size_t len) {
        ActixNetWork * self = static_cast<ActixNetWork *>(user);
        try {
            if (self->m_state.load(std::memory_order_acquire) == RUNNING || self->WaitUntilRunning()) {
                // The group is in front of the bytes, and a frame is shorter than 2 GiB.
                self->OnReceiveMessage(reinterpret_cast<const char *>(bytes) - GROUP_BYTES,
                                       static_cast<int>(len + GROUP_BYTES));
            }
        } catch (...) {
            self->m_exceptions.fetch_add(1, std::memory_order_relaxed);
        }
        // Only one thread comes here.
        self->m_handled.store(self->m_handled.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

    // Waits for RunNetWork, or for the end.
    bool WaitUntilRunning() {
        std::unique_lock<std::mutex> lock(m_locks->opening);
        while (m_state.load(std::memory_order_acquire) < RUNNING) m_locks->opened.wait(lock);
        return m_state.load(std::memory_order_acquire) == RUNNING;
    }

    // Goes from one state to another, if it is the state, and wakes the messages that wait.
    void Open(State from, const State to) {
        std::lock_guard<std::mutex> lock(m_locks->opening);
        if (m_state.compare_exchange_strong(from, to, std::memory_order_acq_rel)) m_locks->opened.notify_all();
    }

    // Returns the transport, with the id 0 before Init has opened the port. Does not wait for Init.
    axt_transport Bound() const {
        std::lock_guard<std::mutex> lock(m_locks->showing);
        return m_transport;
    }

    // Keeps the text.
    int Fail(const char * text) {
        std::lock_guard<std::mutex> lock(m_locks->showing);
        m_sLastError = text;
        return -1;
    }

    int Send(const bool datagram, const std::string & sIp, const int iPort, const std::string & sMessage) {
        if (sMessage.size() < GROUP_BYTES || m_state.load(std::memory_order_acquire) != RUNNING) return -1;
        axt_peer peer = m_peers.Find(sIp, iPort);
        if (peer.id != 0) return SendTo(peer, datagram, sMessage);
        // No exception has a place in the codes that PhxPaxos looks at.
        try {
            if (axt_peer_get(m_context, m_transport, Address(sIp, iPort).c_str(), &peer, nullptr) != AXT_OK) return -1;
        } catch (const std::exception &) {
            return -1;
        }
        const int sent = SendTo(peer, datagram, sMessage);
        bool added = false;
        try {
            added = m_peers.Add(sIp, iPort, peer);
        } catch (const std::exception &) {
            // The message may be queued. The next one looks the peer up again.
        }
        if (!added) axt_peer_free(m_context, peer, nullptr);
        return sent;
    }

    int SendTo(const axt_peer peer, const bool datagram, const std::string & sMessage) {
        const unsigned char * first = reinterpret_cast<const unsigned char *>(sMessage.data());
        const uint32_t group = static_cast<uint32_t>(first[0]) | static_cast<uint32_t>(first[1]) << 8 |
                               static_cast<uint32_t>(first[2]) << 16 | static_cast<uint32_t>(first[3]) << 24;
        const size_t len = sMessage.size() - GROUP_BYTES;
        const axt_code code =
            datagram ? axt_send_datagram(m_context, peer, group, first + GROUP_BYTES, len, nullptr)
                     : axt_try_send(m_context, peer, group, first + GROUP_BYTES, len, nullptr, nullptr);
        return code == AXT_OK ? 0 : code == AXT_FULL ? -2 : -1;
    }

    axt_context * m_context;
    axt_config m_config;
    // {0} until Init. Does not change after that.
    axt_transport m_transport;
    const std::string m_sListen;
    // What is wrong with the arguments of the constructor.
    std::string m_sBroken;
    PeerTable m_peers;
    std::atomic<State> m_state;
    std::atomic<uint64_t> m_exceptions;
    // How many messages were handled, or given up at the end. Shows ThreadSanitizer, which does not see into the
    // library, that whoever has stopped the network comes after them.
    std::atomic<uint64_t> m_handled;
    std::string m_sLastError;
    // Behind a pointer, because a forked process must not end them.
    struct Locks {
        // Held while the network is set up, which may look up a name. Not held while messages are waited for.
        std::mutex changing;
        // Guards the transport's handle and the last error. Held for a moment only, and taken after `changing`.
        std::mutex showing;
        // For messages that wait for RunNetWork.
        std::mutex opening;
        std::condition_variable opened;
    };
    Locks * const m_locks;
};

}  // namespace actix_transport

#endif
