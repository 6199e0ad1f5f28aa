use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(id = 7)]
#[remote(id = 8)]
struct Get;

fn main() {}
