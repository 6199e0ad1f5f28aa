use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(version = 2)]
struct Get;

fn main() {}
