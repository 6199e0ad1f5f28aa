//! The messages between replicas, and their bytes.
//!
//! One message is one payload of the transport. A message contains its sender, so that the protocol
//! needs nothing but these bytes. What the values in a message look like is in `value.rs`, and which
//! lane a message takes in `links.rs`.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, TryGetError};

use crate::value::Value;

/// How many replicas a group has; a majority of them decides.
pub(crate) const REPLICAS: usize = 3;

/// One of the replicas.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct NodeId(u8);

impl NodeId {
    /// Returns the replica with this number, modulo the number of replicas.
    pub(crate) const fn replica(number: usize) -> Self {
        Self((number % REPLICAS) as u8)
    }

    pub(crate) fn replicas() -> impl Iterator<Item = Self> {
        (0..REPLICAS).map(Self::replica)
    }

    /// Returns the replica with this number, if there is one.
    pub(crate) fn named(number: u32) -> Option<Self> {
        Self::replicas().find(|node| u32::from(node.0) == number)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the next replica, and after the last one the first.
    pub(crate) const fn next(self) -> Self {
        Self::replica(self.index() + 1)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// A ballot number. Ballots are totally ordered, and no two nodes use the same one.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Ballot {
    pub(crate) round: u32,
    pub(crate) node: NodeId,
}

impl Ballot {
    /// Below every ballot that a proposer uses: rounds start at 1.
    pub(crate) const ZERO: Self = Self {
        round: 0,
        node: NodeId(0),
    };
}

/// What an acceptor has accepted for one instance.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Vote {
    pub(crate) ballot: Ballot,
    pub(crate) value: Value,
}

/// All messages of a group.
///
/// `commit` is always the length of the sender's log: every instance below it is chosen.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Message {
    /// Phase 1a: asks for a promise, and for all votes from instance `first` on.
    Prepare { ballot: Ballot, first: u64 },
    /// Phase 1b: the promise with these votes. If not `complete`, there are more votes to ask for.
    Promise {
        ballot: Ballot,
        votes: Vec<(u64, Vote)>,
        complete: bool,
    },
    /// Phase 2a: asks to accept this value for this instance.
    Accept {
        ballot: Ballot,
        commit: u64,
        instance: u64,
        value: Value,
    },
    /// Phase 2b: accepted, for every instance from `first` to `last`.
    Accepted {
        ballot: Ballot,
        first: u64,
        last: u64,
    },
    /// The leader sends this when it has sent nothing else for a while.
    Heartbeat { ballot: Ballot, commit: u64 },
    /// Answer to a ballot that is too low or comes at a wrong time, with the ballot to exceed.
    Reject { ballot: Ballot, commit: u64 },

    /// A replica asks for the chosen values from instance `first` on.
    Fetch { first: u64 },
    /// The answer to `Fetch`, with as many values as fit one answer.
    Learn { first: u64, values: Vec<Value> },
}

/// A frame that is not a message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// All integers are big-endian; a ballot is `round: u32, node: u8`.
///
/// | offset | bytes | content                                                            |
/// |--------|-------|--------------------------------------------------------------------|
/// | 0      | 1     | kind                                                               |
/// | 1      | 1     | sender                                                             |
/// | 2      | 13    | `Prepare`: ballot, first u64                                       |
/// |        | 6     | `Promise`: ballot, complete u8, then to the end                    |
/// |        |       | (instance u64, ballot, len u32, value)*                            |
/// |        | 21    | `Accept`: ballot, commit u64, instance u64, then value, to the end |
/// |        | 21    | `Accepted`: ballot, first u64, last u64                            |
/// |        | 13    | `Heartbeat`, `Reject`: ballot, commit u64                          |
/// |        | 8     | `Fetch`: first u64                                                 |
/// |        | 8     | `Learn`: first u64, then (len u32, value)* to the end              |
impl Message {
    /// Appends the message to `out`.
    pub(crate) fn encode(&self, sender: NodeId, out: &mut impl BufMut) {
        out.put_u8(self.kind());
        out.put_u8(sender.0);
        match self {
            Self::Prepare { ballot, first } => {
                put_ballot(out, *ballot);
                out.put_u64(*first);
            }
            Self::Promise {
                ballot,
                votes,
                complete,
            } => {
                put_ballot(out, *ballot);
                out.put_u8((*complete).into());
                for (instance, vote) in votes {
                    out.put_u64(*instance);
                    put_ballot(out, vote.ballot);
                    put_value(out, &vote.value);
                }
            }
            Self::Accept {
                ballot,
                commit,
                instance,
                value,
            } => {
                put_ballot(out, *ballot);
                out.put_u64(*commit);
                out.put_u64(*instance);
                out.put_slice(value.bytes());
            }
            Self::Accepted {
                ballot,
                first,
                last,
            } => {
                put_ballot(out, *ballot);
                out.put_u64(*first);
                out.put_u64(*last);
            }
            Self::Heartbeat { ballot, commit } | Self::Reject { ballot, commit } => {
                put_ballot(out, *ballot);
                out.put_u64(*commit);
            }
            Self::Fetch { first } => out.put_u64(*first),
            Self::Learn { first, values } => {
                out.put_u64(*first);
                for value in values {
                    put_value(out, value);
                }
            }
        }
    }

    /// Returns the sender and the message of a frame. Never panics, whatever the bytes are.
    pub(crate) fn decode(frame: &Bytes) -> Result<(NodeId, Self), Malformed> {
        let mut bytes = &frame[..];
        let rest = &mut bytes;
        let kind = rest.try_get_u8()?;
        let sender = replica(rest.try_get_u8()?)?;
        let message = match kind {
            PREPARE => Self::Prepare {
                ballot: get_ballot(rest)?,
                first: rest.try_get_u64()?,
            },
            PROMISE => Self::Promise {
                ballot: get_ballot(rest)?,
                complete: rest.try_get_u8()? != 0,
                votes: get_votes(frame, rest)?,
            },
            ACCEPT => Self::Accept {
                ballot: get_ballot(rest)?,
                commit: rest.try_get_u64()?,
                instance: rest.try_get_u64()?,
                value: get_last_value(frame, rest),
            },
            ACCEPTED => Self::Accepted {
                ballot: get_ballot(rest)?,
                first: rest.try_get_u64()?,
                last: rest.try_get_u64()?,
            },
            HEARTBEAT => Self::Heartbeat {
                ballot: get_ballot(rest)?,
                commit: rest.try_get_u64()?,
            },
            REJECT => Self::Reject {
                ballot: get_ballot(rest)?,
                commit: rest.try_get_u64()?,
            },
            FETCH => Self::Fetch {
                first: rest.try_get_u64()?,
            },
            LEARN => Self::Learn {
                first: rest.try_get_u64()?,
                values: get_values(frame, rest)?,
            },
            _ => return Err(Malformed),
        };
        if rest.is_empty() {
            Ok((sender, message))
        } else {
            Err(Malformed)
        }
    }

    /// Returns how many bytes the values of this message have.
    pub(crate) fn values_len(&self) -> usize {
        match self {
            Self::Accept { value, .. } => value.len(),
            Self::Promise { votes, .. } => votes.iter().map(|(_, vote)| vote.value.len()).sum(),
            Self::Learn { values, .. } => values.iter().map(Value::len).sum(),
            _ => 0,
        }
    }

    /// Returns the first byte of this message.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Prepare { .. } => PREPARE,
            Self::Promise { .. } => PROMISE,
            Self::Accept { .. } => ACCEPT,
            Self::Accepted { .. } => ACCEPTED,
            Self::Heartbeat { .. } => HEARTBEAT,
            Self::Reject { .. } => REJECT,
            Self::Fetch { .. } => FETCH,
            Self::Learn { .. } => LEARN,
        }
    }
}

const PREPARE: u8 = 1;
const PROMISE: u8 = 2;
const ACCEPT: u8 = 3;
const ACCEPTED: u8 = 4;
const HEARTBEAT: u8 = 5;
const REJECT: u8 = 6;
const FETCH: u8 = 7;
const LEARN: u8 = 8;

fn replica(node: u8) -> Result<NodeId, Malformed> {
    if usize::from(node) < REPLICAS {
        Ok(NodeId(node))
    } else {
        Err(Malformed)
    }
}

fn put_ballot(out: &mut impl BufMut, ballot: Ballot) {
    out.put_u32(ballot.round);
    out.put_u8(ballot.node.0);
}

fn get_ballot(rest: &mut &[u8]) -> Result<Ballot, Malformed> {
    Ok(Ballot {
        round: rest.try_get_u32()?,
        node: replica(rest.try_get_u8()?)?,
    })
}

fn put_value(out: &mut impl BufMut, value: &Value) {
    // The transport takes no message of 4 GiB, so no value is that long.
    out.put_u32(value.len() as u32);
    out.put_slice(value.bytes());
}

fn get_value(frame: &Bytes, rest: &mut &[u8]) -> Result<Value, Malformed> {
    let len = rest.try_get_u32()? as usize;
    let (value, after) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = after;
    Ok(Value::received(frame, value))
}

fn get_last_value(frame: &Bytes, rest: &mut &[u8]) -> Value {
    Value::received(frame, std::mem::take(rest))
}

fn get_values(frame: &Bytes, rest: &mut &[u8]) -> Result<Vec<Value>, Malformed> {
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.push(get_value(frame, rest)?);
    }
    Ok(values)
}

fn get_votes(frame: &Bytes, rest: &mut &[u8]) -> Result<Vec<(u64, Vote)>, Malformed> {
    let mut votes = Vec::new();
    while !rest.is_empty() {
        let instance = rest.try_get_u64()?;
        let ballot = get_ballot(rest)?;
        let value = get_value(frame, rest)?;
        votes.push((instance, Vote { ballot, value }));
    }
    Ok(votes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Request;

    #[test]
    fn every_message_decodes_to_itself_and_no_prefix_panics() {
        let request = Request {
            session: 7,
            number: 9,
        };
        let value = Value::new(request, 20);
        let ballot = Ballot {
            round: 3,
            node: NodeId::replica(2),
        };
        let vote = Vote {
            ballot,
            value: value.clone(),
        };
        let messages = [
            Message::Prepare { ballot, first: 4 },
            Message::Promise {
                ballot,
                votes: vec![(4, vote.clone()), (6, vote)],
                complete: true,
            },
            Message::Accept {
                ballot,
                commit: 4,
                instance: 5,
                value: value.clone(),
            },
            Message::Accepted {
                ballot,
                first: 4,
                last: 5,
            },
            Message::Heartbeat { ballot, commit: 4 },
            Message::Reject { ballot, commit: 4 },
            Message::Fetch { first: 4 },
            Message::Learn {
                first: 4,
                values: vec![value, Value::no_op()],
            },
        ];
        let sender = NodeId::replica(1);
        for message in messages {
            let mut frame = Vec::new();
            message.encode(sender, &mut frame);
            let frame = Bytes::from(frame);
            for end in 0..frame.len() {
                let _ = Message::decode(&frame.slice(..end));
            }
            assert_eq!(Message::decode(&frame), Ok((sender, message)));
        }
    }
}
