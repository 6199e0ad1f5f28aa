//! What the receiver sends back.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
};

/// Passes bytes from the receiver to the sender until the receiver closes the connection. These bytes are
/// neither cut nor counted. Without sessions there are none.
pub(super) async fn pass_back(mut receiver: ReadHalf<'_>, mut sender: WriteHalf<'_>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = receiver.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        // A sender that is gone is noticed by whoever reads from it.
        let _ = sender.write_all(&buffer[..read]).await;
    }
}
