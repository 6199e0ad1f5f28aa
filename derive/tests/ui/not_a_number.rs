use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(id = "get")]
struct Get;

#[derive(RemoteMessage)]
#[remote(id)]
struct Put;

fn main() {}
