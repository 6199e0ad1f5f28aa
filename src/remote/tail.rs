//! [`Tail`]: reads the end of a message, where fields may be missing.
//!
//! Postcard writes no names and no number of fields, so a struct that is longer than its bytes is an error to it. But
//! where the bytes of the whole message end between two fields, those that are missing are ones that the sender does
//! not know. Serde has a word for that, `#[serde(default)]`, and asks for it when a sequence ends early.
//!
//! Only what is last can be short: the message itself, its last field if that is a struct, and so on, through options
//! and enums. Everything else is left to postcard.

use std::cell::Cell;

use postcard::{Deserializer, Error, de_flavors};
use serde::{
    Deserialize,
    de::{self, DeserializeOwned, DeserializeSeed, EnumAccess, SeqAccess, VariantAccess, Visitor},
};

/// Reads a message, whose end may be missing.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let left = Cell::new(bytes);
    let mut inner = Deserializer::from_flavor(Left {
        left: &left,
        stack: stack_position(),
    });
    T::deserialize(Tail {
        inner: &mut inner,
        left: &left,
    })
}

/// Reads the last value of a message.
struct Tail<'a, 'de> {
    inner: &'a mut Deserializer<'de, Left<'de>>,
    /// What `inner` has not read.
    left: &'a Cell<&'de [u8]>,
}

impl<'a, 'de> Tail<'a, 'de> {
    fn fields(self, len: usize) -> Fields<'a, 'de> {
        Fields { tail: self, len }
    }
}

/// Leaves these to postcard.
macro_rules! pass_on {
    ($($name:ident($($arg:ident: $type:ty),*))*) => {
        $(fn $name<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, Error> {
            self.inner.$name($($arg,)* visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Tail<'_, 'de> {
    type Error = Error;

    pass_on! {
        deserialize_any()
        deserialize_bool()
        deserialize_i8()
        deserialize_i16()
        deserialize_i32()
        deserialize_i64()
        deserialize_i128()
        deserialize_u8()
        deserialize_u16()
        deserialize_u32()
        deserialize_u64()
        deserialize_u128()
        deserialize_f32()
        deserialize_f64()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_map()
        deserialize_identifier()
        deserialize_ignored_any()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.left.get().first() {
            Some(1) => {
                u8::deserialize(&mut *self.inner)?;
                visitor.visit_some(self)
            }
            _ => self.inner.deserialize_option(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(self.fields(len))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(self.fields(fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }
}

impl<'de> EnumAccess<'de> for Tail<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let (variant, _) = (&mut *self.inner).variant_seed(seed)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Tail<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.fields(len))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(self.fields(fields.len()))
    }
}

/// The fields of the last value. Fewer may be there than the reader knows.
struct Fields<'a, 'de> {
    tail: Tail<'a, 'de>,
    len: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.len == 0 {
            return Ok(None);
        }
        self.len -= 1;
        let is_end = self.tail.left.get().is_empty();
        let Tail { inner, left } = &mut self.tail;
        let read = match self.len == 0 && !is_end {
            true => seed.deserialize(Tail { inner, left }),
            false => seed.deserialize(&mut **inner),
        };
        match read {
            // A field without bytes is there all the same, so postcard had to be asked.
            Err(Error::DeserializeUnexpectedEnd) if is_end => Ok(None),
            read => read.map(Some),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len)
    }
}

/// How much of the stack reading a message may use. The threads of arbiters have 2 MiB. A list of boxes of some thousand
/// levels needs less.
const STACK: usize = 512 << 10;

/// Reads bytes from the front of a slice. How many are left is seen outside, too, while the decoder runs. Inlined,
/// because messages are decoded in the crates of users.
///
/// A type that contains itself is read by recursion, as deep as the bytes say, and a stack that overflows ends the
/// process. Each level reads something, so it is noticed here.
struct Left<'de> {
    left: &'de Cell<&'de [u8]>,
    /// Where the stack was at the start.
    stack: usize,
}

impl<'de> Left<'de> {
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'de [u8], Error> {
        if self.stack.abs_diff(stack_position()) > STACK {
            return Err(de::Error::custom("nested too deeply"));
        }
        let split = self.left.get().split_at_checked(len);
        let (taken, rest) = split.ok_or(Error::DeserializeUnexpectedEnd)?;
        self.left.set(rest);
        Ok(taken)
    }
}

/// Returns about where the stack of this thread is now.
#[inline]
fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

impl<'de> de_flavors::Flavor<'de> for Left<'de> {
    type Remainder = ();
    type Source = &'de [u8];

    #[inline]
    fn pop(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.get().len())
    }

    #[inline]
    fn try_take_n(&mut self, len: usize) -> Result<&'de [u8], Error> {
        self.take(len)
    }

    fn finalize(self) -> Result<(), Error> {
        Ok(())
    }
}
