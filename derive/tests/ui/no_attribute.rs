use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
struct Get;

fn main() {}
