#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| actix_transport_fuzz::call_heads::run(data));
