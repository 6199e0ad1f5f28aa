//! Ports that processes take one after another.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix_transport::{Builder, Transport};
use socket2::{Domain, Socket, Type};

use crate::row::Failure;

/// Keeps a port of this machine while no process listens there.
pub(crate) struct FixedPort {
    pub(crate) addr: SocketAddr,
    _socket: Socket,
}

impl FixedPort {
    pub(crate) fn reserve() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let addr = socket.local_addr()?.as_socket().expect("an ip address");
        Ok(FixedPort {
            addr,
            _socket: socket,
        })
    }
}

/// Binds the port of a former process, which the kernel may need a moment to release.
pub(crate) async fn bind_again(builder: &Builder, addr: SocketAddr) -> Result<Transport, Failure> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match builder.clone().bind(addr) {
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bound => return Ok(bound?),
        }
    }
}
