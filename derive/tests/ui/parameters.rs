use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(id = 7)]
struct Get<T>(T);

fn main() {}
