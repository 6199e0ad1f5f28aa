//! The fields of a control frame: a tag, the length of the value, the value.

use super::BadControl;

pub(super) mod tag {
    pub(in super::super) const NODE: u8 = 1;
    pub(in super::super) const INCARNATION: u8 = 2;
    pub(in super::super) const CLUSTER: u8 = 3;
    pub(in super::super) const ADVERTISED: u8 = 4;
    pub(in super::super) const PORT: u8 = 5;
    pub(in super::super) const MAX_FRAME: u8 = 6;
    pub(in super::super) const MEANT: u8 = 7;
    pub(in super::super) const REASON: u8 = 8;
    pub(in super::super) const KNOWN: u8 = 9;
    pub(in super::super) const FEATURES: u8 = 10;
    pub(in super::super) const LANE: u8 = 11;
    pub(in super::super) const STREAM: u8 = 12;
    pub(in super::super) const NEXT: u8 = 13;
    pub(in super::super) const MAX_MESSAGE: u8 = 14;
}

/// A control frame that fields are added to.
pub(super) struct FieldWriter(pub(super) Vec<u8>);

impl FieldWriter {
    /// Adds a field. The caller has checked its length, which is at most 259.
    pub(super) fn put(&mut self, tag: u8, value: &[u8]) {
        self.0.push(tag);
        self.0
            .extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.0.extend_from_slice(value);
    }
}

/// The value of a field.
#[derive(Debug, Copy, Clone)]
pub(super) struct Value<'v> {
    tag: u8,
    bytes: &'v [u8],
}

impl<'v> Value<'v> {
    pub(super) fn u8(self) -> Result<u8, BadControl> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(self) -> Result<u16, BadControl> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(self) -> Result<u32, BadControl> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(self) -> Result<u64, BadControl> {
        self.array().map(u64::from_be_bytes)
    }

    /// Returns a text of 1 to `max` bytes.
    pub(super) fn text(self, max: usize) -> Result<&'v str, BadControl> {
        let text = std::str::from_utf8(self.bytes).ok();
        let text = text.filter(|text| (1..=max).contains(&text.len()));
        text.ok_or(BadControl::Value(self.tag))
    }

    fn array<const N: usize>(self) -> Result<[u8; N], BadControl> {
        let array = self.bytes.try_into();
        array.map_err(|_| BadControl::Value(self.tag))
    }
}

/// Calls `each` for each field. A field that comes twice is an error, known or not.
pub(super) fn read_fields<'v>(
    mut bytes: &'v [u8],
    mut each: impl FnMut(u8, Value<'v>) -> Result<(), BadControl>,
) -> Result<(), BadControl> {
    let mut seen = [false; 256];
    while let Some((&[tag, high, low], behind)) = bytes.split_first_chunk::<3>() {
        let len = u16::from_be_bytes([high, low]).into();
        let (value, behind) = behind.split_at_checked(len).ok_or(BadControl::Cut)?;
        if std::mem::replace(&mut seen[usize::from(tag)], true) {
            return Err(BadControl::Twice(tag));
        }
        each(tag, Value { tag, bytes: value })?;
        bytes = behind;
    }
    match bytes.is_empty() {
        true => Ok(()),
        false => Err(BadControl::Cut),
    }
}
