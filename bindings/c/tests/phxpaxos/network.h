// A stand-in for PhxPaxos' phxpaxos/network.h: the five functions that a network has, with their types. Written for
// these tests; where PhxPaxos is installed, its own header takes this one's place.
#pragma once

#include <string>

namespace phxpaxos {

class Node;

class NetWork {
public:
    NetWork() : m_poNode(nullptr) {}
    virtual ~NetWork() {}

    virtual void RunNetWork() = 0;
    virtual void StopNetWork() = 0;

    virtual int SendMessageTCP(const int iGroupIdx, const std::string & sIp, const int iPort,
                               const std::string & sMessage) = 0;
    virtual int SendMessageUDP(const int iGroupIdx, const std::string & sIp, const int iPort,
                               const std::string & sMessage) = 0;

    // Passes the message on to the node, if there is one.
    int OnReceiveMessage(const char * pcMessage, const int iMessageLen);

private:
    friend class Node;
    Node * m_poNode;
};

}  // namespace phxpaxos
