//! Makes the C header of this package's sources.
//!
//! `cargo run --example header` writes it, `cargo run --example header -- --check` fails if it is not as the
//! sources say.

use std::{error::Error, fs, path::Path};

use cbindgen::{Builder, Config};

/// In the order in which a reader wants them.
const SOURCES: [&str; 10] = [
    "code",
    "error",
    "context",
    "config",
    "transport",
    "callback",
    "register",
    "peer",
    "send",
    "stats",
];

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config::from_file(package.join("cbindgen.toml"))?;
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(package.join("src").join(source).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate()?.write(&mut header);
    let path = package.join("include/actix_transport.h");
    if std::env::args().nth(1).as_deref() != Some("--check") {
        fs::write(path, header)?;
        return Ok(());
    }
    match fs::read(&path)? == header {
        true => println!("the header is current"),
        false => return Err("include/actix_transport.h is not current: run `make header`".into()),
    }
    Ok(())
}
