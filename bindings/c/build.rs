//! How the shared library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number changes when the functions or structs do.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libactix_transport_c.so.0");
        // Threads that wait for the system may run on when a transport has stopped, and must not lose their code.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
