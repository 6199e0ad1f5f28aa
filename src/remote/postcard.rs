//! [`Postcard`]: the default codec.

use bytes::{BufMut, Bytes, BytesMut};
use postcard::{Error, ser_flavors, serialize_with_flavor};
use serde::{Serialize, de::DeserializeOwned};

use crate::remote::{
    blob,
    codec::{Codec, CodecError},
    tail,
};

/// The default [`Codec`]: [postcard](https://docs.rs/postcard), a short binary format, for all that serde can write.
///
/// Fields are written one after the other, without names. Bytes behind the last known field are skipped, and a last
/// field that is not there takes its `#[serde(default)]`; so fields can be
/// [added at the end](crate::guide#add-a-field-to-a-typed-message). A [`Blob`](crate::Blob) is decoded without a copy.
///
/// A type that contains itself is decoded down to the level that 512 KiB of stack allow; bytes that go deeper are an
/// error. Something to mind with messages of nodes that are not trusted: values without bytes, as in a `Vec<()>`, can be
/// announced in any number.
#[derive(Debug)]
pub enum Postcard {}

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    fn encode(value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
        serialize_with_flavor(value, Out(out)).map_err(CodecError::new)
    }

    fn decode(bytes: Bytes) -> Result<T, CodecError> {
        blob::sharing(bytes, tail::read).map_err(CodecError::new)
    }
}

/// Writes to the end of a buffer.
struct Out<'a>(&'a mut BytesMut);

impl ser_flavors::Flavor for Out<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> Result<(), Error> {
        self.0.put_u8(data);
        Ok(())
    }

    fn finalize(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn encoded<T: Serialize + DeserializeOwned>(value: &T) -> Bytes {
        let mut out = BytesMut::new();
        Postcard::encode(value, &mut out).expect("can be written");
        out.freeze()
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct First {
        key: String,
        at: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Second {
        key: String,
        at: u64,
        #[serde(default = "ten")]
        limit: u32,
        #[serde(default)]
        nothing: (),
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Last<T>(u8, T);

    fn ten() -> u32 {
        10
    }

    fn first() -> First {
        let key = "a key".to_owned();
        First { key, at: 300 }
    }

    #[test]
    fn bytes_are_those_of_postcard() {
        let mut known = [0; 64];
        let known = postcard::to_slice(&first(), &mut known).expect("fits");
        assert_eq!(encoded(&first()), known[..]);
    }

    #[test]
    fn a_last_field_that_is_not_there_takes_its_default() {
        let decoded: Second = Postcard::decode(encoded(&first())).expect("older");
        assert_eq!((decoded.at, decoded.limit), (300, 10));
        // The same where an answer has it: in a result, in an option, in a tuple struct.
        type Answer<T> = Result<Option<T>, String>;
        let older: Answer<First> = Ok(Some(first()));
        let decoded: Answer<Second> = Postcard::decode(encoded(&older)).expect("older");
        assert_eq!(decoded.map(|it| it.map(|it| it.limit)), Ok(Some(10)));
        let older = encoded(&Last(7, first()));
        let decoded: Last<Second> = Postcard::decode(older).expect("older");
        assert_eq!((decoded.0, decoded.1.limit), (7, 10));
    }

    #[test]
    fn bytes_behind_the_last_field_are_skipped() {
        let second = Second {
            key: "a key".to_owned(),
            at: 300,
            limit: 7,
            nothing: (),
        };
        let decoded: First = Postcard::decode(encoded(&second)).expect("newer");
        assert_eq!(decoded, first());
        let same: Second = Postcard::decode(encoded(&second)).expect("the same");
        assert_eq!(same, second);
    }

    #[test]
    fn bytes_that_are_cut_are_an_error_unless_only_a_default_is_missing() {
        let whole = encoded(&first());
        for cut in 0..whole.len() {
            assert!(<Postcard as Codec<First>>::decode(whole.slice(..cut)).is_err());
            assert!(<Postcard as Codec<Second>>::decode(whole.slice(..cut)).is_err());
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum List {
        End,
        Next(Box<List>),
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Nested(Option<Box<Nested>>);

    #[test]
    fn a_type_that_contains_itself_is_not_read_deeper_than_the_stack_is() {
        let deep = |levels| Bytes::from([vec![1; levels], vec![0]].concat());
        let mut list: List = Postcard::decode(deep(100)).expect("not deep");
        let mut levels = 0;
        while let List::Next(next) = list {
            (list, levels) = (*next, levels + 1);
        }
        assert_eq!(levels, 100);
        assert!(<Postcard as Codec<List>>::decode(deep(10_000_000)).is_err());
        let nested = Bytes::from(vec![1; 10_000_000]);
        assert!(<Postcard as Codec<Nested>>::decode(nested).is_err());
    }

    #[test]
    fn a_length_of_four_gigabytes_takes_no_memory() {
        let announced = Bytes::from_static(b"\xff\xff\xff\xff\x0fabc");
        assert!(<Postcard as Codec<String>>::decode(announced.clone()).is_err());
        assert!(<Postcard as Codec<Vec<u64>>>::decode(announced.clone()).is_err());
        assert!(<Postcard as Codec<blob::Blob>>::decode(announced).is_err());
    }
}
