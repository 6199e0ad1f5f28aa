//! What travels between replicas and clients, and its bytes.
//!
//! One message is one payload of the transport. The transport knows frames, groups and addresses;
//! what a frame means, and which node it came from, is written inside it, because a connection's
//! remote address is an ephemeral port and says nothing about who dialled.

use std::{fmt, sync::Arc};

use bytes::{Buf, BufMut, TryGetError};

/// How many replicas a group has; a majority of them decides.
pub(crate) const REPLICAS: usize = 3;

/// Who sent a message: one of the replicas, or the clients, which all share one transport.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct NodeId(u8);

impl NodeId {
    pub(crate) const CLIENTS: Self = Self(REPLICAS as u8);

    /// Returns the replica a number stands for, counting round.
    pub(crate) const fn replica(number: usize) -> Self {
        Self((number % REPLICAS) as u8)
    }

    pub(crate) fn replicas() -> impl Iterator<Item = Self> {
        (0..REPLICAS).map(Self::replica)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// A proposer's claim to a group. Totally ordered, and never used by two nodes.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Ballot {
    pub(crate) round: u32,
    pub(crate) node: NodeId,
}

impl Ballot {
    /// Below every ballot a proposer uses: rounds start at 1.
    pub(crate) const ZERO: Self = Self {
        round: 0,
        node: NodeId(0),
    };
}

/// Names one request of one client session, so that a value decided twice is applied once.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub(crate) struct Request {
    pub(crate) session: u32,
    /// Counts up from 1 within the session, which asks for the next only after an answer.
    pub(crate) number: u32,
}

/// What a slot of the log holds: a request with its filling, or nothing at all.
///
/// The log, the acceptor and a message on its way out share one allocation.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Value(Arc<[u8]>);

impl Value {
    /// The smallest value: the request's name alone.
    pub(crate) const NAME_LEN: usize = 8;

    /// Returns a value of `len` bytes, the name of the request included.
    pub(crate) fn new(request: Request, len: usize) -> Self {
        let mut bytes = Vec::with_capacity(len.max(Self::NAME_LEN));
        bytes.put_u32(request.session);
        bytes.put_u32(request.number);
        bytes.resize(len.max(Self::NAME_LEN), 0x5a);
        Self(bytes.into())
    }

    /// Returns what a new leader puts into a slot nobody claims.
    pub(crate) fn nothing() -> Self {
        Self(Arc::default())
    }

    /// Returns the request this value carries; nothing carries none.
    pub(crate) fn request(&self) -> Option<Request> {
        let mut bytes = &self.0[..];
        let session = bytes.try_get_u32().ok()?;
        let number = bytes.try_get_u32().ok()?;
        Some(Request { session, number })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Copies on purpose: a slice of the frame would keep the transport's whole read buffer alive
    /// for as long as the log lives.
    fn copy_of(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// What an acceptor has accepted for one slot.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Vote {
    pub(crate) ballot: Ballot,
    pub(crate) value: Value,
}

/// Everything the nodes of a group say to each other.
///
/// `commit` is always the length of the sender's log: every slot below it is chosen.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Message {
    /// Client to leader: please decide this.
    Propose { value: Value },
    /// Replica to client: not here, but perhaps there.
    Redirect { leader: Option<NodeId> },
    /// Leader to client: decided and applied.
    Decided { request: Request },

    /// Phase 1: may I lead, and what have you accepted from slot `first` on?
    Prepare { ballot: Ballot, first: u64 },
    /// Phase 1: you may, and this is what. `complete` is false if there is more to ask for.
    Promise {
        ballot: Ballot,
        votes: Vec<(u64, Vote)>,
        complete: bool,
    },
    /// Phase 2: accept this value for this slot.
    Accept {
        ballot: Ballot,
        commit: u64,
        slot: u64,
        value: Value,
    },
    /// Phase 2: accepted, every slot from `first` to `last`.
    Accepted {
        ballot: Ballot,
        first: u64,
        last: u64,
    },
    /// Leader to a group that has been quiet: I live.
    Beat { ballot: Ballot, commit: u64 },
    /// Answer to a ballot that cannot be served, with the one that stands in its way.
    Refuse { ballot: Ballot, commit: u64 },

    /// Replica that missed something: what was chosen from slot `first` on?
    Fetch { first: u64 },
    /// As much of that as fits one answer.
    Learn { first: u64, values: Vec<Value> },
}

/// A frame that is no message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// All integers are big-endian; a ballot is `round: u32, node: u8`.
///
/// | offset | bytes | what                                                        |
/// |--------|-------|-------------------------------------------------------------|
/// | 0      | 1     | kind                                                        |
/// | 1      | 1     | sender                                                      |
/// | 2      |       | `Propose`: value, to the end                                |
/// |        | 1     | `Redirect`: leader, 0xff if unknown                         |
/// |        | 8     | `Decided`: session u32, number u32                          |
/// |        | 13    | `Prepare`: ballot, first u64                                |
/// |        | 6     | `Promise`: ballot, complete u8, then to the end             |
/// |        |       | (slot u64, ballot, len u32, value)*                         |
/// |        | 21    | `Accept`: ballot, commit u64, slot u64, then value, to the end |
/// |        | 21    | `Accepted`: ballot, first u64, last u64                     |
/// |        | 13    | `Beat`, `Refuse`: ballot, commit u64                        |
/// |        | 8     | `Fetch`: first u64                                          |
/// |        | 8     | `Learn`: first u64, then (len u32, value)* to the end       |
impl Message {
    /// Appends the message to `out`.
    pub(crate) fn encode(&self, sender: NodeId, out: &mut impl BufMut) {
        out.put_u8(self.kind());
        out.put_u8(sender.0);
        match self {
            Self::Propose { value } => out.put_slice(&value.0),
            Self::Redirect { leader } => out.put_u8(leader.map_or(NOBODY, |node| node.0)),
            Self::Decided { request } => {
                out.put_u32(request.session);
                out.put_u32(request.number);
            }
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
                for (slot, vote) in votes {
                    out.put_u64(*slot);
                    put_ballot(out, vote.ballot);
                    put_value(out, &vote.value);
                }
            }
            Self::Accept {
                ballot,
                commit,
                slot,
                value,
            } => {
                put_ballot(out, *ballot);
                out.put_u64(*commit);
                out.put_u64(*slot);
                out.put_slice(&value.0);
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
            Self::Beat { ballot, commit } | Self::Refuse { ballot, commit } => {
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
    pub(crate) fn decode(frame: &[u8]) -> Result<(NodeId, Self), Malformed> {
        let mut frame = frame;
        let rest = &mut frame;
        let kind = rest.try_get_u8()?;
        let sender = match rest.try_get_u8()? {
            node if node == NodeId::CLIENTS.0 => NodeId::CLIENTS,
            node => replica(node)?,
        };
        // Clients propose and do nothing else, so that nothing they say can count as a vote.
        if (sender == NodeId::CLIENTS) != (kind == PROPOSE) {
            return Err(Malformed);
        }
        let message = match kind {
            PROPOSE => Self::Propose {
                value: get_last_value(rest),
            },
            REDIRECT => Self::Redirect {
                leader: match rest.try_get_u8()? {
                    NOBODY => None,
                    node => Some(replica(node)?),
                },
            },
            DECIDED => Self::Decided {
                request: Request {
                    session: rest.try_get_u32()?,
                    number: rest.try_get_u32()?,
                },
            },
            PREPARE => Self::Prepare {
                ballot: get_ballot(rest)?,
                first: rest.try_get_u64()?,
            },
            PROMISE => Self::Promise {
                ballot: get_ballot(rest)?,
                complete: rest.try_get_u8()? != 0,
                votes: get_votes(rest)?,
            },
            ACCEPT => Self::Accept {
                ballot: get_ballot(rest)?,
                commit: rest.try_get_u64()?,
                slot: rest.try_get_u64()?,
                value: get_last_value(rest),
            },
            ACCEPTED => Self::Accepted {
                ballot: get_ballot(rest)?,
                first: rest.try_get_u64()?,
                last: rest.try_get_u64()?,
            },
            BEAT => Self::Beat {
                ballot: get_ballot(rest)?,
                commit: rest.try_get_u64()?,
            },
            REFUSE => Self::Refuse {
                ballot: get_ballot(rest)?,
                commit: rest.try_get_u64()?,
            },
            FETCH => Self::Fetch {
                first: rest.try_get_u64()?,
            },
            LEARN => Self::Learn {
                first: rest.try_get_u64()?,
                values: get_values(rest)?,
            },
            _ => return Err(Malformed),
        };
        if rest.is_empty() {
            Ok((sender, message))
        } else {
            Err(Malformed)
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Propose { .. } => PROPOSE,
            Self::Redirect { .. } => REDIRECT,
            Self::Decided { .. } => DECIDED,
            Self::Prepare { .. } => PREPARE,
            Self::Promise { .. } => PROMISE,
            Self::Accept { .. } => ACCEPT,
            Self::Accepted { .. } => ACCEPTED,
            Self::Beat { .. } => BEAT,
            Self::Refuse { .. } => REFUSE,
            Self::Fetch { .. } => FETCH,
            Self::Learn { .. } => LEARN,
        }
    }
}

const PROPOSE: u8 = 1;
const REDIRECT: u8 = 2;
const DECIDED: u8 = 3;
const PREPARE: u8 = 4;
const PROMISE: u8 = 5;
const ACCEPT: u8 = 6;
const ACCEPTED: u8 = 7;
const BEAT: u8 = 8;
const REFUSE: u8 = 9;
const FETCH: u8 = 10;
const LEARN: u8 = 11;

const NOBODY: u8 = 0xff;

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
    // A value has come through a frame or is about to: it is far from 4 GiB.
    out.put_u32(value.len() as u32);
    out.put_slice(&value.0);
}

fn get_value(rest: &mut &[u8]) -> Result<Value, Malformed> {
    let len = rest.try_get_u32()? as usize;
    let (value, after) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = after;
    Ok(Value::copy_of(value))
}

fn get_last_value(rest: &mut &[u8]) -> Value {
    Value::copy_of(std::mem::take(rest))
}

fn get_values(rest: &mut &[u8]) -> Result<Vec<Value>, Malformed> {
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.push(get_value(rest)?);
    }
    Ok(values)
}

fn get_votes(rest: &mut &[u8]) -> Result<Vec<(u64, Vote)>, Malformed> {
    let mut votes = Vec::new();
    while !rest.is_empty() {
        let slot = rest.try_get_u64()?;
        let ballot = get_ballot(rest)?;
        let value = get_value(rest)?;
        votes.push((slot, Vote { ballot, value }));
    }
    Ok(votes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_wire_and_no_prefix_panics() {
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
        let from_replica = [
            Message::Redirect { leader: None },
            Message::Redirect {
                leader: Some(NodeId::replica(1)),
            },
            Message::Decided { request },
            Message::Prepare { ballot, first: 4 },
            Message::Promise {
                ballot,
                votes: vec![(4, vote.clone()), (6, vote)],
                complete: true,
            },
            Message::Accept {
                ballot,
                commit: 4,
                slot: 5,
                value: value.clone(),
            },
            Message::Accepted {
                ballot,
                first: 4,
                last: 5,
            },
            Message::Beat { ballot, commit: 4 },
            Message::Refuse { ballot, commit: 4 },
            Message::Fetch { first: 4 },
            Message::Learn {
                first: 4,
                values: vec![value.clone(), Value::nothing()],
            },
        ]
        .map(|message| (NodeId::replica(1), message));
        let from_clients = [(NodeId::CLIENTS, Message::Propose { value })];

        for (sender, message) in from_replica.into_iter().chain(from_clients) {
            let mut frame = Vec::new();
            message.encode(sender, &mut frame);
            for end in 0..frame.len() {
                let _ = Message::decode(&frame[..end]);
            }
            assert_eq!(Message::decode(&frame), Ok((sender, message)));
        }
    }

    #[test]
    fn clients_have_no_vote() {
        let mut frame = Vec::new();
        let accepted = Message::Accepted {
            ballot: Ballot::ZERO,
            first: 0,
            last: 0,
        };
        accepted.encode(NodeId::CLIENTS, &mut frame);
        assert_eq!(Message::decode(&frame), Err(Malformed));
    }
}
