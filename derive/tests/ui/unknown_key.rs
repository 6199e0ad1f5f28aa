use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(id = 7, since = 2)]
struct Get;

fn main() {}
