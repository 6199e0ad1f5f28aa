//! Replays the inputs that the fuzzers kept, with the same code that the fuzzers run; see `fuzz/`.

use std::{fs, path::Path};

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "in `fuzz/` this file is a crate of its own")]
mod fuzz;

use fuzz::{
    call_heads, calls, certificate, config, connection, datagram, decoder, first_bytes, handshake,
    parts, patterns, queue, writer,
};

/// Runs every file of a target's corpus, and the empty input.
fn replay(target: &str, run: fn(&[u8])) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let corpus = fs::read_dir(corpora.join(target)).expect("a corpus for each target");
    let mut files: Vec<_> = corpus
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() > 5, "{target}: {} files", files.len());
    run(&[]);
    for file in files {
        // Shown only if the test fails.
        println!("{}", file.display());
        run(&fs::read(file).expect("readable"));
    }
}

#[test]
fn the_corpus_of_the_decoder_holds() {
    replay("decoder", decoder::run);
}

#[test]
fn the_corpus_of_connections_holds() {
    replay("connection", connection::run);
}

#[test]
fn the_corpus_of_datagrams_holds() {
    replay("datagram", datagram::run);
}

#[test]
fn the_corpus_of_the_queue_holds() {
    replay("queue", queue::run);
}

#[test]
fn the_corpus_of_the_writer_holds() {
    replay("writer", writer::run);
}

#[test]
fn the_corpus_of_calls_holds() {
    replay("calls", calls::run);
}

#[test]
fn the_corpus_of_the_heads_of_calls_holds() {
    replay("call_heads", call_heads::run);
}

#[test]
fn the_corpus_of_parts_holds() {
    replay("parts", parts::run);
}

#[test]
fn the_corpus_of_settings_holds() {
    replay("config", config::run);
}

#[test]
fn the_corpus_of_the_handshake_holds() {
    replay("handshake", handshake::run);
}

#[test]
fn the_corpus_of_patterns_holds() {
    replay("patterns", patterns::run);
}

#[test]
fn the_corpus_of_certificates_holds() {
    replay("certificate", certificate::run);
}

#[test]
fn the_corpus_of_first_bytes_holds() {
    replay("first_bytes", first_bytes::run);
}
