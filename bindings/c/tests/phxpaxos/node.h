// A stand-in for the part of PhxPaxos' phxpaxos/node.h, options.h and sm.h that the tests and the example use. It runs
// no Paxos. Written for these tests; where PhxPaxos is installed, its own headers take this one's place.
#pragma once

#include "phxpaxos/network.h"

#include <cstdint>
#include <string>
#include <vector>

namespace phxpaxos {

struct SMCtx {
    SMCtx() : m_iSMID(0), m_pCtx(nullptr) {}
    int m_iSMID;
    void * m_pCtx;
};

class StateMachine {
public:
    virtual ~StateMachine() {}
    virtual bool Execute(const int iGroupIdx, const uint64_t llInstanceID, const std::string & sPaxosValue,
                         SMCtx * poSMCtx) = 0;
    // PhxPaxos says const here.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-qualifiers"
    virtual const int SMID() const = 0;
#pragma GCC diagnostic pop
};

class NodeInfo {
public:
    NodeInfo() : m_iPort(0) {}
    NodeInfo(const std::string & sIP, const int iPort) : m_sIP(sIP), m_iPort(iPort) {}
    const std::string & GetIP() const { return m_sIP; }
    int GetPort() const { return m_iPort; }

private:
    std::string m_sIP;
    int m_iPort;
};

struct GroupSMInfo {
    GroupSMInfo() : iGroupIdx(-1) {}
    int iGroupIdx;
    std::vector<StateMachine *> vecSMList;
};

struct Options {
    Options() : poNetWork(nullptr), iUDPMaxSize(4096), iIOThreadCount(1), iGroupCount(1), bIsLargeValueMode(false) {}
    std::string sLogStoragePath;
    NetWork * poNetWork;
    size_t iUDPMaxSize;
    int iIOThreadCount;
    int iGroupCount;
    NodeInfo oMyNode;
    std::vector<NodeInfo> vecNodeInfoList;
    std::vector<GroupSMInfo> vecGroupSMInfoList;
    bool bIsLargeValueMode;
};

class Node {
public:
    virtual ~Node() {}

    static int RunNode(const Options & oOptions, Node *& poNode);

    virtual int Propose(const int iGroupIdx, const std::string & sValue, uint64_t & llInstanceID, SMCtx * poSMCtx) = 0;

    // Not in PhxPaxos, where RunNode does this: has messages of the network passed to this node.
    void Use(NetWork & oNetWork) { oNetWork.m_poNode = this; }

protected:
    friend class NetWork;

    virtual int OnReceiveMessage(const char * pcMessage, const int iMessageLen) = 0;
};

inline int NetWork::OnReceiveMessage(const char * pcMessage, const int iMessageLen) {
    return m_poNode ? m_poNode->OnReceiveMessage(pcMessage, iMessageLen) : 0;
}

}  // namespace phxpaxos
