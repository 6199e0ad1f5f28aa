//! Codecs that misbehave cost their own call only.

use actix::prelude::*;
use actix_transport::{CallPart, Codec, CodecError, Config, RemoteError, RemoteMessage, Transport};
use bytes::{Bytes, BytesMut};

use super::{STORE, pair, settled, to};
use crate::support::*;

/// Answers each message with what it says.
struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

/// What it writes is what it is told to do by whoever reads it.
enum Unruly {}

#[derive(Debug, Clone, PartialEq)]
struct Order(&'static str);

impl Codec<Order> for Unruly {
    fn encode(Order(order): &Order, out: &mut BytesMut) -> Result<(), CodecError> {
        match *order {
            "panic here" => panic!("caused by this test"),
            "fail here" => Err(CodecError::new("as told")),
            "nothing" => {
                out.clear();
                Ok(())
            }
            _ => {
                out.extend_from_slice(order.as_bytes());
                Ok(())
            }
        }
    }

    fn decode(bytes: Bytes) -> Result<Order, CodecError> {
        match &bytes[..] {
            b"panic there" => panic!("caused by this test"),
            b"fail there" => Err(CodecError::new("as told")),
            b"announce 4 GiB" => {
                let mut announced = Vec::<u8>::new();
                let given = announced.try_reserve_exact(usize::MAX / 2);
                given.map_err(CodecError::new)?;
                Ok(Order(""))
            }
            b"answer with a panic" => Ok(Order("panic here")),
            b"answer with a failure" => Ok(Order("fail here")),
            b"answer that panics" => Ok(Order("panic there")),
            b"answer that fails" => Ok(Order("fail there")),
            _ => Ok(Order("fine")),
        }
    }
}

#[derive(Debug, Message)]
#[rtype(result = "Reply")]
struct Obey(Order);

#[derive(Debug, PartialEq, MessageResponse)]
struct Reply(Order);

impl Codec<Obey> for Unruly {
    fn encode(Obey(order): &Obey, out: &mut BytesMut) -> Result<(), CodecError> {
        <Unruly as Codec<Order>>::encode(order, out)
    }

    fn decode(bytes: Bytes) -> Result<Obey, CodecError> {
        <Unruly as Codec<Order>>::decode(bytes).map(Obey)
    }
}

impl Codec<Reply> for Unruly {
    fn encode(Reply(order): &Reply, out: &mut BytesMut) -> Result<(), CodecError> {
        <Unruly as Codec<Order>>::encode(order, out)
    }

    fn decode(bytes: Bytes) -> Result<Reply, CodecError> {
        <Unruly as Codec<Order>>::decode(bytes).map(Reply)
    }
}

impl RemoteMessage for Obey {
    const ID: u32 = 12;
    const MAX_BYTES: usize = 32;
    type Codec = Unruly;

    fn name() -> &'static str {
        "Obey"
    }
}

impl Handler<Obey> for Echo {
    type Result = Reply;

    fn handle(&mut self, Obey(order): Obey, _: &mut Context<Self>) -> Reply {
        Reply(order)
    }
}

async fn ends_of(a: &Transport, b: &Transport, order: &'static str) -> Result<Reply, RemoteError> {
    to::<Obey>(a, b).send(Obey(Order(order))).await
}

fn unencodable(what: CallPart, text: &str) -> Result<Reply, RemoteError> {
    Err(RemoteError::Unencodable {
        message: "Obey",
        what,
        text: text.into(),
    })
}

fn undecodable(what: CallPart, text: &str) -> Result<Reply, RemoteError> {
    Err(RemoteError::Undecodable {
        message: "Obey",
        what,
        text: text.into(),
    })
}

#[test]
fn a_codec_that_panics_or_fails_costs_its_own_call_only() {
    use CallPart::{Answer, Call};
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            b.serve::<Obey>(STORE, Echo.start()).expect("free id");
            let panicked = "the codec panicked";
            let cases = [
                ("panic here", unencodable(Call, panicked)),
                ("fail here", unencodable(Call, "as told")),
                ("panic there", undecodable(Call, panicked)),
                ("fail there", undecodable(Call, "as told")),
                ("answer with a panic", unencodable(Answer, panicked)),
                ("answer with a failure", unencodable(Answer, "as told")),
                ("answer that panics", undecodable(Answer, panicked)),
                ("answer that fails", undecodable(Answer, "as told")),
            ];
            for (order, expected) in cases {
                assert_eq!(ends_of(&a, &b, order).await, expected, "{order}");
                let fine = ends_of(&a, &b, "go on").await;
                assert_eq!(fine, Ok(Reply(Order("fine"))), "after {order}");
            }
            settled(&[a.clone(), b.clone()]).await;
            let (calls, served) = (a.stats().calls, b.stats().served);
            assert_eq!(
                (calls.called, calls.answered, calls.undecodable),
                (16, 10, 2)
            );
            assert_eq!(calls.failed.not_understood, 6);
            assert_eq!((served.received, served.not_understood), (14, 4));
            end([a, b]).await;
        });
    }
}

#[test]
fn a_codec_that_asks_for_far_too_much_memory_or_breaks_the_head_gets_an_error() {
    run(async {
        let [a, b] = pair(&Config::default());
        b.serve::<Obey>(STORE, Echo.start()).expect("free id");
        let announced = ends_of(&a, &b, "announce 4 GiB").await;
        let is_refused = |end: &Result<Reply, RemoteError>| {
            matches!(
                end,
                Err(RemoteError::Undecodable {
                    what: CallPart::Call,
                    ..
                })
            )
        };
        assert!(is_refused(&announced), "{announced:?}");
        let headless = ends_of(&a, &b, "nothing").await;
        assert!(is_refused(&headless), "{headless:?}");
        assert_eq!(ends_of(&a, &b, "go on").await, Ok(Reply(Order("fine"))));
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}

#[test]
fn a_message_that_is_longer_than_it_may_be_is_neither_sent_nor_decoded() {
    run(async {
        let [a, b] = pair(&Config::default());
        b.serve::<Obey>(STORE, Echo.start()).expect("free id");
        let long = "0123456789 0123456789 0123456789";
        assert_eq!(long.len(), Obey::MAX_BYTES);
        let fits = ends_of(&a, &b, long).await;
        assert_eq!(fits, Ok(Reply(Order("fine"))));
        let text = "33 bytes are more than the 32 that the message allows";
        let longer = ends_of(&a, &b, "0123456789 0123456789 0123456789!").await;
        assert_eq!(longer, unencodable(CallPart::Call, text));
        assert_eq!(b.stats().served.received, 1, "it was not sent");
        // From a node that does not mind.
        let peer = a.peer(b.local_addr()).expect("usable");
        let raw = [&b"\0\0\0\x0c\0\x01\0\0panic there"[..], &[b' '; 22]].concat();
        let refused = peer.call(STORE, raw).await.expect_err("too long");
        assert_eq!(
            refused.to_string(),
            format!("the message cannot be decoded: {text}")
        );
        end([a, b]).await;
    });
}
