use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(id = 7, version = 70_000)]
struct Get;

fn main() {}
