//! A transport that runs entirely on this thread, and the frames that it delivered.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use actix::{Actor, Context, Handler, System, SystemRunner};
use actix_transport::{Config, Inbound, Placement, ReceiveStats, Transport};

/// A frame that was delivered.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) struct Got {
    pub(crate) from: SocketAddr,
    pub(crate) group: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Node {
    pub(crate) transport: Transport,
    got: Rc<RefCell<Vec<Got>>>,
}

impl Node {
    /// Starts a node that takes the frames of all groups. It lives as long as the program.
    pub(crate) fn start(config: Config) -> (SystemRunner, Node) {
        // An event interval of 1 makes the runtime look at its sockets after every task, and not
        // only now and then.
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let built = builder.enable_all().event_interval(1).build();
            built.expect("a runtime")
        };
        let system = System::with_tokio_rt(runtime);
        let got: Rc<RefCell<Vec<Got>>> = Rc::default();
        let transport = system.block_on(async {
            let config = config.placement(Placement::Current);
            let transport = Transport::builder().config(config).bind("127.0.0.1:0");
            let transport = transport.expect("free port");
            let taker = Taker(got.clone()).start();
            transport.catch_all(Some(taker.recipient()));
            transport
        });
        (system, Node { transport, got })
    }

    /// Returns the frames that were delivered since the last call.
    pub(crate) fn take(&self) -> Vec<Got> {
        self.got.take()
    }

    /// Returns the receive counters, after checking that they balance.
    pub(crate) fn received(&self) -> ReceiveStats {
        let stats = self.transport.stats();
        assert_eq!(stats.balance(), Ok(()));
        stats.inbound
    }
}

struct Taker(Rc<RefCell<Vec<Got>>>);

impl Actor for Taker {
    type Context = Context<Self>;
}

impl Handler<Inbound> for Taker {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, _: &mut Context<Self>) {
        let (from, group) = (inbound.from().socket_addr(), inbound.group().get());
        let got = inbound.map(|payload| Got {
            from,
            group,
            payload: payload.to_vec(),
        });
        self.0.borrow_mut().extend(got);
    }
}
