//! Calls, their frames, links and answers in any order, and the same in a simple table. How each call ends, and what is
//! written of it, must be the same; and a call that was not sent is never written.

use std::collections::BTreeMap;

use actix_transport::{
    CallError, Stats,
    test_internals::{Calling, Ended},
};

use super::script::Script;

const FRAMES: usize = 12;
const ANSWERS: usize = 300;
/// How long a frame of no call waits, in seconds: `Config::stale_after`.
const STALE: u64 = 5;
const NODES: u64 = 2;

pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let (mut calls, mut table) = (Calling::new(FRAMES, ANSWERS), Table::default());
    while let Some(step) = script.step() {
        let id = u64::from(step) / 16 % 16 + table.last.saturating_sub(12);
        match step % 16 {
            0..3 => {
                // Some are too long for a shared buffer.
                let (len, limit) = (script.number() * 50, u64::from(step) / 16);
                assert_eq!(calls.call(len, limit, table.now), table.call(limit));
            }
            3 => {
                let node = Some(u64::from(step) / 16 % 4).filter(|node| *node < NODES);
                calls.link_begins(node);
                (table.node, table.link) = (node, table.link + 1);
            }
            4 => {
                calls.link_ended();
                table.link_ended();
            }
            5..8 => assert_eq!(calls.write(table.now), table.write(true)),
            8 => {
                calls.lose(table.now);
                table.write(false);
            }
            9 | 10 => {
                let (node, len) = (script.number() as u64 % NODES, script.number());
                calls.answer(id, node, len);
                table.answer(id, node, len);
            }
            11 => {
                table.now += script.number() as u64 / 32;
                calls.expire(table.now);
                table.expire();
            }
            12 => assert_eq!(calls.poll(id), table.poll(id), "{id}"),
            13 => assert_eq!(calls.give_up(id), table.give_up(id), "{id}"),
            14 => {
                calls.unreachable();
                table.unreachable();
            }
            _ if step == 255 => {
                calls.stop();
                table.stop();
            }
            _ => {}
        }
        check(&calls, &table);
    }
}

fn check(calls: &Calling, table: &Table) {
    let mut stats = Stats::default();
    stats.calls = calls.stats();
    stats.udp = calls.frames();
    stats.balance().expect("balances");
    assert_eq!(stats.calls.stray, table.stray);
    assert_eq!(stats.udp.queued.frames as usize, table.queue.len());
    let open = table.calls.values().filter(|call| call.ended.is_none());
    assert_eq!(stats.calls.pending as usize, open.count());
}

#[derive(Default)]
struct Table {
    calls: BTreeMap<u64, Call>,
    /// The calls whose frames are queued. Those without a deadline say nothing.
    queue: Vec<Frame>,
    node: Option<u64>,
    link: u64,
    now: u64,
    last: u64,
    stray: u64,
    stopped: bool,
}

struct Call {
    deadline: u64,
    asked: Option<(u64, u64)>,
    ended: Option<Ended>,
}

struct Frame {
    id: u64,
    at: u64,
    limit: Option<u64>,
}

impl Table {
    fn call(&mut self, limit: u64) -> Result<u64, CallError> {
        if self.stopped {
            return Err(CallError::Stopped);
        }
        if limit == 0 {
            return Err(CallError::Deadline { sent: false });
        }
        self.last += 1;
        if self.queue.len() == FRAMES {
            return Err(CallError::Full);
        }
        let call = Call {
            deadline: self.now + limit,
            asked: None,
            ended: None,
        };
        self.calls.insert(self.last, call);
        self.queue.push(Frame {
            id: self.last,
            at: self.now,
            limit: Some(limit),
        });
        Ok(self.last)
    }

    fn end(&mut self, id: u64, how: Ended) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.ended.get_or_insert(how);
        }
    }

    fn end_all(&mut self, which: impl Fn(&Call) -> bool, why: &CallError) {
        for call in self.calls.values_mut() {
            if call.ended.is_none() && which(call) {
                call.ended = Some(Err(why.clone()));
            }
        }
    }

    fn link_ended(&mut self) {
        let link = self.link;
        let is_lost = |call: &Call| call.asked.is_some_and(|(_, on)| on <= link);
        self.end_all(is_lost, &CallError::Lost { sent: true });
    }

    fn unreachable(&mut self) {
        let since = std::time::Duration::ZERO;
        self.end_all(
            |call| call.asked.is_none(),
            &CallError::Unreachable { since },
        );
    }

    fn expire(&mut self) {
        let now = self.now;
        for sent in [false, true] {
            let is_late = |call: &Call| call.deadline <= now && call.asked.is_some() == sent;
            self.end_all(is_late, &CallError::Deadline { sent });
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.end_all(|_| true, &CallError::Stopped);
    }

    /// What the queue dropped of an open call was not sent. The real clock has not reached its deadline.
    fn dropped(&mut self, id: u64, why: CallError) {
        let why = if self.stopped {
            CallError::Stopped
        } else {
            why
        };
        self.end(id, Err(why));
    }

    fn write(&mut self, whole: bool) -> Vec<(u64, Option<u64>)> {
        let now = self.now;
        let is_stale = |frame: &Frame| now - frame.at >= frame.limit.unwrap_or(STALE);
        let (stale, fresh) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(is_stale);
        self.queue = fresh;
        for frame in Vec::<Frame>::from_iter(stale) {
            if frame.limit.is_some() {
                self.dropped(frame.id, CallError::Lost { sent: false });
            }
        }
        let mut written = Vec::new();
        for mut frame in std::mem::take(&mut self.queue) {
            let call = self.calls.get_mut(&frame.id);
            let call = call.filter(|call| call.ended.is_none());
            match (frame.limit, self.node, call) {
                (Some(_), None, _) => {
                    self.dropped(frame.id, CallError::Unsupported);
                    continue;
                }
                (Some(_), Some(node), Some(call)) => {
                    // A frame that is lost with its link was not sent.
                    call.asked = whole.then_some((node, self.link));
                    written.push((frame.id, Some(call.deadline)));
                }
                _ => {
                    frame.limit = None;
                    written.push((frame.id, None));
                }
            }
            if !whole {
                self.queue.push(frame);
            }
        }
        written
    }

    fn answer(&mut self, id: u64, node: u64, len: usize) {
        let waiting = self.calls.values();
        let waiting: usize = waiting
            .filter_map(|call| call.ended.as_ref()?.as_ref().ok())
            .sum();
        let open = self.calls.get(&id).filter(|call| call.ended.is_none());
        let is_asked = open.is_some_and(|call| call.asked.is_some_and(|(of, _)| of == node));
        if !is_asked {
            self.stray += 1;
        } else if waiting + len <= ANSWERS {
            self.end(id, Ok(len));
        } else {
            self.end(id, Err(CallError::Lost { sent: true }));
        }
    }

    fn poll(&mut self, id: u64) -> Option<Ended> {
        let ended = self.calls.get(&id)?.ended.clone()?;
        self.calls.remove(&id);
        Some(ended)
    }

    fn give_up(&mut self, id: u64) -> Option<bool> {
        let call = self.calls.remove(&id)?;
        let must_be_told = call.ended.is_none() && call.asked.is_some();
        if !must_be_told {
            let frame = self.queue.iter_mut().find(|frame| frame.id == id);
            frame.into_iter().for_each(|frame| frame.limit = None);
        }
        Some(must_be_told)
    }
}
