//! One node: a process with a web server, a transport and an actor.

use std::{io, net::TcpListener, time::Duration};

use actix::Actor;
use actix_transport::{Config, Identity, NodeId, Shutdown, Transport};
use actix_web::{App, HttpServer, rt::spawn, rt::task::spawn_blocking, web::Data};

use crate::{
    Failure,
    counters::{COUNTERS, Counters, Increment},
    web::{Owners, routes},
};

/// How long a node waits at most before it dials another one again, so that one that comes back is soon asked.
const REDIAL: Duration = Duration::from_millis(250);

/// Prints the addresses of its web server and its transport, reads those of all transports, and serves until its
/// standard input ends.
pub(crate) async fn run(number: u64, http: &str, addr: &str) -> Result<(), Failure> {
    let counters = Counters::default().start();
    let transport = Transport::builder()
        .config(Config::default().redial_max(REDIAL).udp(false))
        .identity(Identity::new(NodeId::new(number)).cluster("service"))
        .serve::<Increment>(COUNTERS, counters)
        .bind(addr)?;
    let http = TcpListener::bind(http)?;
    println!("{} {}", http.local_addr()?, transport.local_addr());

    let mut addrs = String::new();
    io::stdin().read_line(&mut addrs)?;
    let owner = |addr| Ok(transport.peer(addr)?.recipient(COUNTERS));
    let owners = addrs.split_whitespace().map(owner);
    let owners = Data::new(owners.collect::<Result<Owners, Failure>>()?);
    let server = HttpServer::new(move || App::new().app_data(owners.clone()).configure(routes));
    let server = server.workers(1).disable_signals().listen(http)?.run();
    let handle = server.handle();
    spawn(server);

    spawn_blocking(|| io::read_to_string(io::stdin())).await??;
    handle.stop(true).await;
    transport.stop(Shutdown::Drain(REDIAL)).await;
    Ok(transport.stats().balance()?)
}
