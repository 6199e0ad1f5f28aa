//! Messages can be written by other codecs than postcard.

use actix::prelude::*;
use actix_transport::{Codec, CodecError, Config, RemoteMessage};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{STORE, pair, to};
use crate::support::*;

/// Answers each message with what it says.
struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

// ---- JSON --------------------------------------------------------------------------------------------

enum Json {}

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn encode(value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
        serde_json::to_writer(out.writer(), value).map_err(CodecError::new)
    }

    fn decode(bytes: Bytes) -> Result<T, CodecError> {
        serde_json::from_slice(&bytes).map_err(CodecError::new)
    }
}

#[derive(Debug, Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Result<Vec<String>, String>")]
#[remote(id = 10, codec = Json)]
struct Words {
    text: String,
}

impl Handler<Words> for Echo {
    type Result = Result<Vec<String>, String>;

    fn handle(&mut self, Words { text }: Words, _: &mut Context<Self>) -> Self::Result {
        match text.is_empty() {
            true => Err("no words".to_owned()),
            false => Ok(text.split(' ').map(str::to_owned).collect()),
        }
    }
}

#[test]
fn messages_can_be_json() {
    run(async {
        let [a, b] = pair(&Config::default());
        b.serve::<Words>(STORE, Echo.start()).expect("free id");
        let words = to::<Words>(&a, &b);
        let send = |text: &str| words.send(Words { text: text.into() });
        let answer = send("two words").await.expect("answered");
        assert_eq!(answer, Ok(vec!["two".to_owned(), "words".to_owned()]));
        assert_eq!(send("").await, Ok(Err("no words".to_owned())));
        // A node that is not written in Rust can read and write them.
        let peer = a.peer(b.local_addr()).expect("usable");
        let raw = b"\0\0\0\x0a\0\x01\0\0{\"text\":\"by hand\"}";
        let answer = peer.call(STORE, &raw[..]).await.expect("answered");
        assert_eq!(answer, r#"{"Ok":["by","hand"]}"#);
        end([a, b]).await;
    });
}

// ---- protobuf ----------------------------------------------------------------------------------------

enum Protobuf {}

/// Keeps results apart from the messages of protobuf, which they are not.
trait Proto: prost::Message + Default {}

impl<T: Proto> Codec<T> for Protobuf {
    fn encode(value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
        value.encode(out).map_err(CodecError::new)
    }

    fn decode(bytes: Bytes) -> Result<T, CodecError> {
        T::decode(bytes).map_err(CodecError::new)
    }
}

/// A byte that says which, and then one or the other.
impl<T: Proto, E: Proto> Codec<Result<T, E>> for Protobuf {
    fn encode(value: &Result<T, E>, out: &mut BytesMut) -> Result<(), CodecError> {
        out.put_u8(u8::from(value.is_err()));
        match value {
            Ok(value) => Self::encode(value, out),
            Err(err) => Self::encode(err, out),
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Result<T, E>, CodecError> {
        match bytes.try_get_u8().map_err(CodecError::new)? {
            0 => Self::decode(bytes).map(Ok),
            _ => Self::decode(bytes).map(Err),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message, Message, RemoteMessage)]
#[rtype(result = "Result<Halved, Odd>")]
#[remote(id = 11, codec = Protobuf)]
struct Halve {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    ballast: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Halved {
    #[prost(uint64, tag = "1")]
    number: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Odd {
    #[prost(string, tag = "1")]
    text: String,
}

impl Proto for Halve {}
impl Proto for Halved {}
impl Proto for Odd {}

impl Handler<Halve> for Echo {
    type Result = Result<Halved, Odd>;

    fn handle(&mut self, halve: Halve, _: &mut Context<Self>) -> Self::Result {
        assert_eq!(halve.ballast, vec![7; 1_000]);
        let number = halve.number;
        match number % 2 {
            0 => Ok(Halved { number: number / 2 }),
            _ => Err(Odd {
                text: format!("{number} is odd"),
            }),
        }
    }
}

#[test]
fn messages_can_be_protobuf() {
    run(async {
        let [a, b] = pair(&Config::default());
        b.serve::<Halve>(STORE, Echo.start()).expect("free id");
        let halve = to::<Halve>(&a, &b);
        let send = |number| {
            let ballast = vec![7; 1_000].into();
            halve.send(Halve { number, ballast })
        };
        let halved = send(12).await.expect("answered").expect("even");
        assert_eq!(halved.number, 6);
        let text = "7 is odd".to_owned();
        assert_eq!(send(7).await, Ok(Err(Odd { text })));
        end([a, b]).await;
    });
}
