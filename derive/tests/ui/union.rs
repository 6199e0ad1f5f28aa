use actix_transport_derive::RemoteMessage;

#[derive(RemoteMessage)]
#[remote(id = 7)]
union Get {
    number: u32,
    text: [u8; 4],
}

fn main() {}
