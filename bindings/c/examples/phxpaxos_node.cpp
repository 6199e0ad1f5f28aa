// A node of PhxPaxos whose network is actix-transport: a state machine that prints each chosen value, and a proposal
// for each line of the input.
//
//     c++ -std=c++11 phxpaxos_node.cpp -o phxpaxos_node -I$PHXPAXOS/include -L$PHXPAXOS/lib -lphxpaxos
//         -lprotobuf -lleveldb -lpthread $(pkg-config --cflags --libs actix_transport)
//         -Wl,-rpath,$(pkg-config --variable=libdir actix_transport)    (in one line)
//     ./phxpaxos_node /var/lib/node1 10.0.0.1 11111 10.0.0.2 11111 10.0.0.3 11111
//
// The first address is this node's, the others are those of the other nodes. Other nodes of the cluster may run with
// PhxPaxos' own network.
#include "actix_transport_phxpaxos.hpp"
#include "phxpaxos/node.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>

class Printer : public phxpaxos::StateMachine {
public:
    virtual bool Execute(const int iGroupIdx, const uint64_t llInstanceID, const std::string & sPaxosValue,
                         phxpaxos::SMCtx *) {
        std::printf("group %d, instance %llu: %s\n", iGroupIdx, static_cast<unsigned long long>(llInstanceID),
                    sPaxosValue.c_str());
        return true;
    }

    virtual const int SMID() const { return 1; }
};

int main(int argc, char ** argv) {
    if (argc < 4 || argc % 2 != 0) {
        std::fprintf(stderr, "usage: %s LOGDIR IP PORT [IP PORT]...\n", argv[0]);
        return 2;
    }
    Printer oPrinter;
    phxpaxos::GroupSMInfo oGroup;
    oGroup.iGroupIdx = 0;
    oGroup.vecSMList.push_back(&oPrinter);

    phxpaxos::Options oOptions;
    oOptions.sLogStoragePath = argv[1];
    oOptions.iGroupCount = 1;
    oOptions.vecGroupSMInfoList.push_back(oGroup);
    oOptions.oMyNode = phxpaxos::NodeInfo(argv[2], std::atoi(argv[3]));
    for (int i = 2; i < argc; i += 2)
        oOptions.vecNodeInfoList.push_back(phxpaxos::NodeInfo(argv[i], std::atoi(argv[i + 1])));

    // The network comes before the node, listens where the node is to be found, and has as many threads.
    actix_transport::ActixNetWork oNetWork(argv[2], std::atoi(argv[3]), oOptions.iIOThreadCount, "",
                                           oOptions.bIsLargeValueMode);
    if (oNetWork.Set("max_datagram", std::to_string(oOptions.iUDPMaxSize)) != 0 || oNetWork.Init() != 0) {
        std::fprintf(stderr, "network: %s\n", oNetWork.LastError().c_str());
        return 1;
    }
    oOptions.poNetWork = &oNetWork;

    phxpaxos::Node * poNode = nullptr;
    int ret = phxpaxos::Node::RunNode(oOptions, poNode);
    if (ret != 0) {
        std::fprintf(stderr, "RunNode returned %d\n", ret);
        return 1;
    }
    phxpaxos::SMCtx oCtx;
    oCtx.m_iSMID = oPrinter.SMID();
    std::string sLine;
    while (std::getline(std::cin, sLine)) {
        uint64_t llInstanceID = 0;
        ret = poNode->Propose(0, sLine, llInstanceID, &oCtx);
        if (ret != 0) std::fprintf(stderr, "Propose returned %d\n", ret);
    }
    std::printf("%s\n", oNetWork.StatsJson().c_str());
    // PhxPaxos leaves a network of the program running. It must stop before the node ends.
    oNetWork.StopNetWork();
    delete poNode;
    return 0;
}
