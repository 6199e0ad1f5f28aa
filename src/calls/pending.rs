//! [`PendingCalls`]: the calls of this node that wait for their answers.
//!
//! Everything that can end a call comes here: the answer, its deadline, the end of a link, a dial that failed, the
//! queue, the caller that goes away. The first of them decides, under one lock, so each call ends once. Whether a call
//! was sent is decided here, too: its frame is written only if the call is still open when the frame is taken out of
//! the queue, and from then on it counts as sent, unless the frame comes back unwritten.
//!
//! Wakers are foreign code: they are woken and dropped when the lock is released.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    call_error::CallError,
    calls::{call_table::CallTable, deadlines::Deadlines, expire::Expire, foreign::wake},
    ids::{Incarnation, NodeId},
    net::time::{self, Instant},
    observe::stats::CallStats,
    wire::call::CallId,
};

/// Which lane of which peer a call is for: a number that no other lane has.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct CallLane(pub(crate) u64);

/// A life of a node, which may be asked.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(crate) struct CallPeer {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
}

/// Who was asked, and on which link of the lane.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Asked {
    peer: CallPeer,
    link: u64,
}

impl CallPeer {
    pub(crate) fn on(self, link: u64) -> Asked {
        Asked { peer: self, link }
    }
}

/// The calls of one transport.
pub(crate) struct PendingCalls {
    table: Mutex<Table>,
    /// How many bytes of answers may wait for their callers.
    max_answers: usize,
}

#[derive(Debug, Default)]
struct Table {
    calls: CallTable<Pending>,
    deadlines: Deadlines<CallId>,
    last: u64,
    stats: CallStats,
    /// Bytes of answers that their callers have not taken.
    answers: usize,
    stopped: bool,
}

#[derive(Debug)]
struct Pending {
    lane: CallLane,
    deadline: Instant,
    /// `None` as long as the call was not sent.
    asked: Option<Asked>,
    /// Whether it was about to be written on a link whose far end takes no calls.
    is_unsupported: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The waker is the caller's.
    Open(Waker),
    /// How it ended. The caller has not looked yet.
    Ended(Result<Bytes, CallError>),
}

/// One call, as its caller sees it. Dropping this gives the call up.
#[derive(Debug)]
pub(crate) struct Ticket {
    calls: Arc<PendingCalls>,
    pub(crate) id: CallId,
    /// Whether the caller knows how it has ended. Then the table knows nothing of it any more.
    is_over: bool,
}

impl PendingCalls {
    /// `first` is the number before that of the first call. It must be drawn at random: another life of this node may
    /// have been asked before, and answers to that one must not be taken for answers to this one.
    pub(crate) fn new(max_answers: usize, first: u64) -> Arc<Self> {
        let table = Table {
            last: first,
            ..Table::default()
        };
        Arc::new(PendingCalls {
            table: Mutex::new(table),
            max_answers,
        })
    }

    // ---- for callers -------------------------------------------------------------------------------

    /// Begins a call. `waker` is woken when it has ended.
    pub(crate) fn begin(
        self: &Arc<Self>,
        lane: CallLane,
        now: Instant,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<Ticket, CallError> {
        let waker = waker.clone();
        let mut table = self.table.lock();
        table.stats.called += 1;
        let refused = match (table.stopped, deadline <= now) {
            (true, _) => Some(CallError::Stopped),
            (false, true) => Some(CallError::Deadline { sent: false }),
            (false, false) => None,
        };
        if let Some(err) = refused {
            table.stats.failed.count(&err);
            drop(table);
            drop(waker);
            return Err(err);
        }
        table.stats.pending += 1;
        table.last += 1;
        let id = CallId(table.last);
        let pending = Pending {
            lane,
            deadline,
            asked: None,
            is_unsupported: false,
            state: State::Open(waker),
        };
        table.calls.insert(id, pending);
        let looks = table.deadlines.add(deadline, id);
        drop(table);
        looks.into_iter().for_each(wake);
        Ok(Ticket {
            calls: self.clone(),
            id,
            is_over: false,
        })
    }

    /// Counts a call that was refused before it began.
    pub(crate) fn refuse(&self, why: &CallError) {
        let stats = &mut self.table.lock().stats;
        stats.called += 1;
        stats.failed.count(why);
    }

    /// Counts an answer that its caller could not decode.
    #[cfg(feature = "remote")]
    pub(crate) fn count_undecodable(&self) {
        self.table.lock().stats.undecodable += 1;
    }

    // ---- for the send queue ------------------------------------------------------------------------

    /// Notes that a call is about to be written. Returns whether it may be: it must be open.
    pub(crate) fn ask(&self, id: CallId, asked: Asked) -> bool {
        match self.table.lock().open(id) {
            Some(pending) => {
                pending.asked = Some(asked);
                true
            }
            None => false,
        }
    }

    /// Notes that a call was not written, and is in the queue again.
    pub(crate) fn take_back(&self, id: CallId) {
        if let Some(pending) = self.table.lock().open(id) {
            pending.asked = None;
        }
    }

    /// Notes that the far end takes no calls. The caller is told when the frame is [dropped](PendingCalls::dropped).
    pub(super) fn mark_unsupported(&self, id: CallId) {
        if let Some(pending) = self.table.lock().open(id) {
            pending.is_unsupported = true;
        }
    }

    /// Notes that the queue has dropped a call that was not written.
    pub(super) fn dropped(&self, id: CallId) {
        self.end_some(|table| {
            let pending = table.calls.get(&id)?;
            let why = match (table.stopped, pending.deadline <= time::now()) {
                (true, _) => CallError::Stopped,
                (false, _) if pending.is_unsupported => CallError::Unsupported,
                (false, true) => CallError::Deadline { sent: false },
                (false, false) => CallError::Lost { sent: false },
            };
            Some((id, Err(why)))
        });
    }

    // ---- for links ---------------------------------------------------------------------------------

    /// Takes what a node says about a call. Counted as stray if it was not asked, or does not need to answer any more.
    pub(crate) fn answer(&self, id: CallId, from: CallPeer, says: Result<Bytes, CallError>) {
        let max = self.max_answers;
        self.end_some(|table| {
            let is_from = |asked: Asked| asked.peer == from;
            let is_asked = table
                .open(id)
                .is_some_and(|pending| pending.asked.is_some_and(is_from));
            if !is_asked {
                table.stats.stray += 1;
                return None;
            }
            let len = says.as_ref().map_or(0, Bytes::len);
            let says = match table.answers + len <= max {
                true => says,
                false => Err(CallError::Lost { sent: true }),
            };
            Some((id, says))
        });
    }

    /// Notes that a link of a lane has ended, on which no answer will come: calls that were sent on it are lost. So are
    /// those that were sent on former ones.
    pub(crate) fn link_ended(&self, lane: CallLane, link: u64) {
        let is_lost = |pending: &Pending| {
            let asked = pending.asked.filter(|asked| asked.link <= link);
            asked.filter(|_| pending.lane == lane).is_some()
        };
        self.end_all(is_lost, || CallError::Lost { sent: true });
    }

    /// Notes that a dial of a lane has failed, which has had no link for so long. Calls that wait for one fail.
    pub(crate) fn unreachable(&self, lane: CallLane, since: Duration) {
        let waits = |pending: &Pending| pending.lane == lane && pending.asked.is_none();
        self.end_all(waits, || CallError::Unreachable { since });
    }

    /// Ends all calls of a lane that was forgotten.
    pub(crate) fn forget(&self, lane: CallLane) {
        self.end_all(|pending| pending.lane == lane, || CallError::Stopped);
    }

    // ---- for the transport -------------------------------------------------------------------------

    fn expire_calls(&self, now: Instant) -> Option<Instant> {
        let mut next = None;
        self.end_some(|table| {
            let due = table.deadlines.take_due(now);
            next = table.deadlines.arm();
            let late = |id: CallId| {
                let sent = table.calls.get(&id)?.asked.is_some();
                Some((id, Err(CallError::Deadline { sent })))
            };
            due.into_iter().filter_map(late).collect::<Vec<_>>()
        });
        next
    }

    /// Ends all calls, and lets none begin.
    pub(crate) fn stop(&self) {
        self.table.lock().stopped = true;
        self.end_all(|_| true, || CallError::Stopped);
    }

    pub(crate) fn stats(&self) -> CallStats {
        self.table.lock().stats
    }

    // ---- the end of calls --------------------------------------------------------------------------

    fn end_all(&self, which: impl Fn(&Pending) -> bool, why: impl Fn() -> CallError) {
        self.end_some(|table| {
            let open = table.calls.iter().filter(|(_, call)| call.is_open());
            let ended = open.filter(|(_, call)| which(call));
            ended.map(|(id, _)| (*id, Err(why()))).collect::<Vec<_>>()
        });
    }

    /// Ends those of the chosen calls that are open, and wakes their callers.
    fn end_some<Chosen>(&self, choose: impl FnOnce(&mut Table) -> Chosen)
    where
        Chosen: IntoIterator<Item = (CallId, Result<Bytes, CallError>)>,
    {
        let mut wakers = Wakers::default();
        let mut table = self.table.lock();
        for (id, how) in choose(&mut table) {
            wakers.add(table.end(id, how));
        }
        drop(table);
        wakers.wake();
    }
}

impl fmt::Debug for PendingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCalls").finish_non_exhaustive()
    }
}

impl Expire for PendingCalls {
    fn expire(&self, now: Instant) -> Option<Instant> {
        self.expire_calls(now)
    }

    fn poll_sooner(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(cx.waker().clone());
        self.table.lock().deadlines.poll_sooner(&mut waker)
    }
}

impl Table {
    fn open(&mut self, id: CallId) -> Option<&mut Pending> {
        self.calls.get_mut(&id).filter(|pending| pending.is_open())
    }

    /// Ends a call if it is open. Returns the waker of its caller.
    fn end(&mut self, id: CallId, how: Result<Bytes, CallError>) -> Option<Waker> {
        let pending = self.calls.get_mut(&id).filter(|call| call.is_open())?;
        self.deadlines.remove(pending.deadline, id);
        self.stats.pending -= 1;
        match &how {
            Ok(answer) => {
                self.stats.answered += 1;
                self.answers += answer.len();
            }
            Err(why) => self.stats.failed.count(why),
        }
        match mem::replace(&mut pending.state, State::Ended(how)) {
            State::Open(waker) => Some(waker),
            State::Ended(_) => None,
        }
    }
}

/// Wakers that are woken when the lock is released. Mostly it is one.
#[derive(Default)]
struct Wakers {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    fn add(&mut self, waker: Option<Waker>) {
        match self.first {
            None => self.first = waker,
            Some(_) => self.others.extend(waker),
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.others).for_each(wake);
    }
}

impl Pending {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }
}

impl Ticket {
    /// Returns how the call ended, once.
    ///
    /// # Panics
    ///
    /// If it has returned that already.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, CallError>> {
        // Only a waker that is not known is cloned, which needs the lock to be released.
        let mut other = None;
        loop {
            let mut table = self.calls.table.lock();
            let pending = table.calls.get_mut(&self.id);
            match &mut pending.expect("polled after it was ready").state {
                State::Open(known) if known.will_wake(cx.waker()) => break,
                State::Open(known) => match other.take() {
                    Some(waker) => {
                        let former = mem::replace(known, waker);
                        drop(table);
                        drop(former);
                        return Poll::Pending;
                    }
                    None => {
                        drop(table);
                        other = Some(cx.waker().clone());
                    }
                },
                State::Ended(_) => {
                    let ended = table.take_ended(self.id);
                    drop(table);
                    self.is_over = true;
                    return Poll::Ready(ended.expect("is there"));
                }
            }
        }
        Poll::Pending
    }

    /// Ends the call, because it cannot be sent. Returns why, or why it has ended before.
    pub(crate) fn fail(mut self, why: CallError) -> CallError {
        let mut table = self.calls.table.lock();
        // Its caller is at hand.
        let waker = table.end(self.id, Err(why.clone()));
        let ended = table.take_ended(self.id);
        drop(table);
        drop(waker);
        self.is_over = true;
        ended.and_then(Result::err).unwrap_or(why)
    }

    /// Gives the call up, if it is open. Returns whether its receiver should be told: it was sent, and nobody has
    /// answered. If it was not sent, it never is.
    pub(crate) fn give_up(&mut self) -> bool {
        if mem::replace(&mut self.is_over, true) {
            return false;
        }
        let mut table = self.calls.table.lock();
        let Some(pending) = table.calls.remove(&self.id) else {
            return false;
        };
        let was_open = pending.is_open();
        match &pending.state {
            State::Open(_) => {
                table.deadlines.remove(pending.deadline, self.id);
                table.stats.pending -= 1;
                table.stats.failed.cancelled += 1;
            }
            State::Ended(how) => table.answers -= how.as_ref().map_or(0, Bytes::len),
        }
        drop(table);
        was_open && pending.asked.is_some()
    }
}

impl Table {
    fn take_ended(&mut self, id: CallId) -> Option<Result<Bytes, CallError>> {
        match self.calls.remove(&id)?.state {
            State::Open(_) => None,
            State::Ended(how) => {
                self.answers -= how.as_ref().map_or(0, Bytes::len);
                Some(how)
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_up();
    }
}
