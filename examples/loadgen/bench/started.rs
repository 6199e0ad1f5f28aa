//! What all processes have in common that the bench starts for one side of a run.
//!
//! A receiver prints to standard output where it listens. Such a process ends when its standard
//! input is closed, which happens when its parent ends, and after a minute at the latest.

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
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The text before the addresses.
pub(super) const ANNOUNCEMENT: &str = "listening on ";

#[derive(Copy, Clone, Eq, PartialEq, ValueEnum)]
pub(super) enum Side {
    Send,
    Receive,
}

/// Ends this process when its parent has ended, or after [`TIME_LIMIT`].
pub(super) fn live_no_longer_than_it_should() {
    thread::spawn(|| {
        // The parent never writes to it, so this returns when the parent has ended.
        let _ = stdin().read(&mut [0]);
        exit(1);
    });
    thread::spawn(|| {
        thread::sleep(TIME_LIMIT);
        let _ = writeln!(stderr(), "not done after {TIME_LIMIT:?}");
        exit(1);
    });
}

/// Prints the addresses to which the other side sends.
pub(super) fn announce(addrs: &[SocketAddr]) -> Result<(), Failure> {
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    writeln!(stdout(), "{ANNOUNCEMENT}{}", addrs.join(","))?;
    Ok(())
}

/// Returns the loopback address, with a port that the system chooses.
pub(super) fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
