//! Connections that write the same bytes as fast as they are read. Each has a thread of its own.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use crate::row::Failure;

/// The bytes of a frame on the wire.
pub(super) fn wire(group: u32, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u32;
    [&length.to_be_bytes()[..], &group.to_le_bytes(), payload].concat()
}

/// The connections. They end when this is dropped, once a write of theirs has returned.
pub(super) struct RawFlood {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl RawFlood {
    /// Opens `count` connections, each of which writes `bytes` again and again.
    pub(super) fn start(to: SocketAddr, count: usize, bytes: &[u8]) -> Result<Self, Failure> {
        let mut flood = RawFlood {
            over: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..count {
            let mut stream = TcpStream::connect(to)?;
            let (over, bytes) = (flood.over.clone(), bytes.to_vec());
            let builder = thread::Builder::new().name("flood".into());
            flood.threads.push(builder.spawn(move || {
                while !over.load(Relaxed) && stream.write_all(&bytes).is_ok() {}
            })?);
        }
        Ok(flood)
    }

    /// Returns whether all connections still write.
    pub(super) fn all_open(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }
}

impl Drop for RawFlood {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}
