//! Control frames: what two nodes tell each other about themselves, on the reserved group.
//!
//! ```text
//! offset  size  field
//! 0       4     length    u32 big-endian, counting itself, at most 4 096
//! 4       4     group     FF FF FF FF, the reserved group, which a PhxPaxos node ignores
//! 8       4     magic     "atps": other frames of that group are no control frames
//! 12      1     kind      1 Hello, 2 Welcome, 3 Refused, 4 Start, 5 Gap, 6 Goodbye
//! 13      1     newest    the highest version that the sender speaks; in a Welcome, the one chosen
//! 14      1     oldest    the lowest version that the sender speaks; in a Welcome, the same as `newest`
//! 15      1     zero      ignored when read
//! 16      n     fields, one behind the other up to the length, each at most once and in any order
//!
//! a field:
//! 0       1     tag
//! 1       2     length    u16 big-endian, of the value
//! 3       n     value     numbers are big-endian
//!
//! tag  in      value (H Hello, W Welcome, R Refused, S Start, G Gap)
//! 1    H W     u64   node
//! 2    H W     u64   incarnation
//! 3    H W     text  name of the cluster, 1 to 255 bytes; left out if it has none
//! 4    H W     text  address that others reach the node at, 1 to 259 bytes; may be left out
//! 5    H W     u16   port that the node listens on
//! 6    H W     u32   longest frame that the node accepts, as its length field says it
//! 7    H       u64   the node that is meant; left out if any will do
//! 8    R       u16   reason, see `RefusedReason`
//! 9    R       u64   the incarnation that is known, if the other is older
//! 10   H W     u32   features, see [`node_info::Features`]; left out if there are none
//! 11   H       u8    lane of the link, see [`Lane`]; left out for 0
//! 12   S       u64   stream: which of the sender's queues the frames come from
//! 13   S G     u64   number of the next frame
//! 14   H W     u64   longest message in parts that the node accepts, see [`part`](super::part); left out if it
//!                    takes none
//! ```
//!
//! `Start` comes before the first frame that an end sends on a link, and says which frame that will be. All
//! frames of a queue are numbered from 0 on, in the order in which the queue accepted them, whichever link
//! they take. `Gap` says that the next frame is a later one than would follow, because those between were
//! dropped. `Goodbye` says that the node stops. These three come only to a node whose features have `LINKS`,
//! or whose features are not known yet.
//!
//! The first 16 bytes, the form of a field and the meaning of a tag are the same in all versions, so a
//! `Refused` can always be read. Fields with other tags are skipped: a later release may add some. Both
//! ends use the highest version that both speak. Nothing here does I/O, and nothing is allocated for bytes
//! that are announced and have not arrived.

mod fields;
pub(crate) mod node_info;
pub(crate) mod refused;

use self::{
    fields::{FieldWriter, read_fields, tag},
    node_info::NodeInfo,
    refused::Refused,
};
use crate::{
    ids::{GroupId, NodeId},
    lane::Lane,
    wire::frame::{self, HEADER, PREFIX},
};

/// The longest control frame. The longest of today's takes some 600 bytes; the others are for later
/// releases.
pub(crate) const MAX_CONTROL: usize = 4 << 10;

/// What follows the length: the reserved group and the magic.
const MARK: &[u8; 8] = b"\xff\xff\xff\xffatps";

/// Bytes before the fields.
const HEAD: usize = 16;

/// A control frame.
#[derive(Debug, Clone, Eq, PartialEq)]
pub(crate) enum Control {
    /// The first frame of a link: who dials, and whom it means to reach.
    Hello {
        version: u8,
        from: NodeInfo,
        to: Option<NodeId>,
        /// The number of the lane.
        lane: u8,
    },
    /// The answer to a `Hello`: who was reached.
    Welcome { version: u8, from: NodeInfo },
    /// The answer to a `Hello` that is not accepted. The connection is closed behind it.
    Refused(Refused),
    /// The frames of a queue begin here, with this number.
    Start { stream: u64, next: u64 },
    /// The next frame has this number. Those before it that have not come will not come.
    Gap { next: u64 },
    /// The node stops.
    Goodbye,
    /// A `Hello` or `Welcome` of a node that speaks none of our versions.
    OtherVersion,
    /// A kind that a later release may have.
    Unknown,
}

/// What a received byte stream begins with.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Front {
    /// Too few bytes to tell, or an incomplete control frame.
    Incomplete,
    /// Anything but a control frame.
    Other,
    /// A control frame of so many bytes.
    Control(Control, usize),
}

/// Why the bytes of a control frame cannot be read.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadControl {
    #[error("control frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("control frame is too short for its fields")]
    Cut,
    #[error("control frame has versions from {oldest} to {newest}")]
    Versions { newest: u8, oldest: u8 },
    #[error("control frame has field {0} twice")]
    Twice(u8),
    #[error("control frame lacks field {0}")]
    Missing(u8),
    #[error("control frame has a bad value in field {0}")]
    Value(u8),
}

/// The versions that a node speaks.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
struct Versions {
    newest: u8,
    oldest: u8,
}

impl Versions {
    const OURS: Versions = Versions {
        newest: 1,
        oldest: 1,
    };

    /// Returns the highest version that both speak.
    fn common(self, other: Versions) -> Option<u8> {
        let version = self.newest.min(other.newest);
        (version >= self.oldest.max(other.oldest)).then_some(version)
    }
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSED: u8 = 3;
const START: u8 = 4;
const GAP: u8 = 5;
const GOODBYE: u8 = 6;

impl Control {
    /// Returns a `Hello` in the versions that we speak.
    pub(crate) fn hello(from: NodeInfo, to: Option<NodeId>, lane: Lane) -> Self {
        Control::Hello {
            version: Versions::OURS.newest,
            from,
            to,
            lane: lane.get(),
        }
    }

    /// Returns the bytes of the whole frame.
    ///
    /// # Panics
    ///
    /// If it is a frame that can only be received.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let ours = Versions::OURS;
        match self {
            Control::Hello { from, to, lane, .. } => {
                let mut fields = begin(HELLO, ours);
                from.write(&mut fields);
                if let Some(to) = to {
                    fields.put(tag::MEANT, &to.get().to_be_bytes());
                }
                if *lane != Lane::NORMAL.get() {
                    fields.put(tag::LANE, &[*lane]);
                }
                end(fields)
            }
            Control::Welcome { version, from } => {
                let chosen = Versions {
                    newest: *version,
                    oldest: *version,
                };
                let mut fields = begin(WELCOME, chosen);
                from.write(&mut fields);
                end(fields)
            }
            Control::Refused(refused) => {
                let mut fields = begin(REFUSED, ours);
                refused.write(&mut fields);
                end(fields)
            }
            Control::Start { stream, next } => {
                let mut fields = begin(START, ours);
                fields.put(tag::STREAM, &stream.to_be_bytes());
                fields.put(tag::NEXT, &next.to_be_bytes());
                end(fields)
            }
            Control::Gap { next } => {
                let mut fields = begin(GAP, ours);
                fields.put(tag::NEXT, &next.to_be_bytes());
                end(fields)
            }
            Control::Goodbye => end(begin(GOODBYE, ours)),
            Control::OtherVersion | Control::Unknown => unreachable!("only received"),
        }
    }

    /// Looks at the front of `bytes` for a control frame. Fails as soon as its length is known to be too
    /// long, and does not wait for its end then.
    pub(crate) fn front(bytes: &[u8]) -> Result<Front, BadControl> {
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
            return Ok(Front::Incomplete);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        let mark = bytes[PREFIX..].get(..MARK.len());
        let begun = mark.unwrap_or(&bytes[PREFIX..]);
        // Other frames must not wait until they are complete.
        if len < PREFIX + MARK.len() || !MARK.starts_with(begun) {
            return Ok(Front::Other);
        }
        if mark.is_none() {
            return Ok(Front::Incomplete);
        }
        if len > MAX_CONTROL {
            return Err(BadControl::TooLong(len));
        }
        match bytes.get(..len) {
            Some(whole) => Ok(Front::Control(decode(whole)?, len)),
            None => Ok(Front::Incomplete),
        }
    }
}

/// Returns whether a whole frame is a control frame.
pub(crate) fn is_control(frame: &[u8]) -> bool {
    frame
        .get(PREFIX..)
        .is_some_and(|rest| rest.starts_with(MARK))
}

fn begin(kind: u8, versions: Versions) -> FieldWriter {
    let mut bytes = vec![0; PREFIX];
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&[kind, versions.newest, versions.oldest, 0]);
    FieldWriter(bytes)
}

/// Writes the length, which is known now.
fn end(FieldWriter(mut bytes): FieldWriter) -> Vec<u8> {
    let header = frame::header(GroupId::RESERVED, bytes.len() - HEADER);
    bytes[..HEADER].copy_from_slice(&header);
    bytes
}

/// Reads a whole control frame.
fn decode(frame: &[u8]) -> Result<Control, BadControl> {
    let (head, fields) = frame.split_at_checked(HEAD).ok_or(BadControl::Cut)?;
    let (kind, newest, oldest) = (head[12], head[13], head[14]);
    if oldest > newest {
        return Err(BadControl::Versions { newest, oldest });
    }
    let version = Versions::OURS.common(Versions { newest, oldest });
    Ok(match (kind, version) {
        (HELLO | WELCOME, None) => Control::OtherVersion,
        (HELLO, Some(version)) => read_hello(version, fields)?,
        (WELCOME, Some(version)) => {
            let mut from = node_info::Reading::default();
            read_fields(fields, |tag, value| from.read(tag, value))?;
            let from = from.end()?;
            Control::Welcome { version, from }
        }
        (REFUSED, _) => Control::Refused(Refused::read(fields)?),
        (START, _) => {
            let (stream, next) = read_numbers(fields)?;
            let stream = stream.ok_or(BadControl::Missing(tag::STREAM))?;
            Control::Start { stream, next }
        }
        (GAP, _) => {
            let (_, next) = read_numbers(fields)?;
            Control::Gap { next }
        }
        (GOODBYE, _) => {
            read_fields(fields, |_, _| Ok(()))?;
            Control::Goodbye
        }
        _ => {
            read_fields(fields, |_, _| Ok(()))?;
            Control::Unknown
        }
    })
}

fn read_hello(version: u8, fields: &[u8]) -> Result<Control, BadControl> {
    let (mut from, mut to, mut lane) = (node_info::Reading::default(), None, 0);
    read_fields(fields, |tag, value| {
        match tag {
            tag::MEANT => to = Some(NodeId::new(value.u64()?)),
            tag::LANE => lane = value.u8()?,
            _ => from.read(tag, value)?,
        }
        Ok(())
    })?;
    let from = from.end()?;
    Ok(Control::Hello {
        version,
        from,
        to,
        lane,
    })
}

/// Returns the stream, if there is one, and the number of the next frame.
fn read_numbers(fields: &[u8]) -> Result<(Option<u64>, u64), BadControl> {
    let (mut stream, mut next) = (None, None);
    read_fields(fields, |tag, value| {
        match tag {
            tag::STREAM => stream = Some(value.u64()?),
            tag::NEXT => next = Some(value.u64()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((stream, next.ok_or(BadControl::Missing(tag::NEXT))?))
}

#[cfg(test)]
mod tests;
