//! What every process that is started for a side of a run has in common, whatever it runs.
//!
//! A receiver says on standard output where it listens. No such process outlives the one that started
//! it, whose end closes its standard input, nor a minute.

use std::{
    io::{Read, Write, stderr, stdin, stdout},
    net::SocketAddr,
    process::exit,
    thread,
    time::Duration,
};

use clap::ValueEnum;

use crate::Failure;

/// How long a run may take: some fifty times as long as it should.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stands before the addresses.
pub(super) const ANNOUNCEMENT: &str = "listening on ";

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(super) enum Side {
    Send,
    Receive,
}

/// Sees to it that this process comes to an end.
pub(super) fn live_no_longer_than_it_should() {
    thread::spawn(|| {
        // Nothing is ever written to it, so what ends this is the end of it.
        let _ = stdin().read(&mut [0]);
        exit(1);
    });
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        let _ = writeln!(stderr(), "not done after {PATIENCE:?}");
        exit(1);
    });
}

/// Says where to send to.
pub(super) fn announce(addrs: &[SocketAddr]) -> Result<(), Failure> {
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    writeln!(stdout(), "{ANNOUNCEMENT}{}", addrs.join(","))?;
    Ok(())
}

/// Returns the local address with a port of the system's choice.
pub(super) fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
