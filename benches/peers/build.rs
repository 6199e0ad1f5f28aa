//! Generates the stubs of the gRPC service for tonic's contestant. The service is described here in
//! Rust, so neither a `.proto` file nor a compiler for it is needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let push = Method::builder()
        .name("push")
        .route_name("Push")
        .input_type("crate::contestants::tonic::Frame")
        .output_type("crate::contestants::tonic::Done")
        .codec_path("crate::contestants::tonic::Codec")
        .client_streaming()
        .build();
    let ask = Method::builder()
        .name("ask")
        .route_name("Ask")
        .input_type("crate::contestants::tonic::Frame")
        .output_type("crate::contestants::tonic::Frame")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let frames = Service::builder()
        .name("Frames")
        .package("peers")
        .method(push)
        .method(ask)
        .build();
    Builder::new().compile(&[frames]);
}
