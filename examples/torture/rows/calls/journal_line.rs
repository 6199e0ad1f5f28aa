//! [`JournalLine`]: what a process writes of its calls, one line each.
//!
//! A line is in the pipe to the row before what it tells goes on: before the call is made, and before its handler does
//! anything. So a process that is killed has told all that it did, except how the calls ended that were under way.

use std::{fmt, str::FromStr, time::Duration};

use super::{message::CallName, told::Told};
use crate::{row::Failure, sink::print_line};

#[derive(Debug, Copy, Clone)]
pub(super) enum JournalLine {
    /// A caller is about to make a call.
    Called(CallName),
    /// A caller was told how its call ended.
    Ended(CallName, Told, Late),
    /// A handler has a call.
    Served(CallName, Late),
    /// The process did not run: how long, and until when.
    Stall(Duration, Duration),
}

/// How long after the deadline of a call something was, and when, by the clock of its process.
#[derive(Debug, Copy, Clone)]
pub(super) struct Late {
    pub(super) by: Duration,
    pub(super) at: Duration,
}

impl JournalLine {
    /// Writes it. Returns whether the row still reads.
    pub(super) fn write(self) -> bool {
        print_line(self).is_ok()
    }
}

impl fmt::Display for JournalLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalLine::Called(call) => write!(f, "called {call}"),
            JournalLine::Ended(call, told, late) => {
                write!(f, "ended {call} {} {late}", told.word())
            }
            JournalLine::Served(call, late) => write!(f, "served {call} {late}"),
            JournalLine::Stall(length, until) => {
                write!(f, "stall {} {}", length.as_micros(), until.as_micros())
            }
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.by.as_micros(), self.at.as_micros())
    }
}

impl FromStr for JournalLine {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let words: Vec<_> = line.split(' ').collect();
        let time = |word: &str| word.parse().map(Duration::from_micros);
        let late = |by, at| -> Result<Late, Failure> {
            Ok(Late {
                by: time(by)?,
                at: time(at)?,
            })
        };
        let nonsense = || Failure::error(format!("a node that calls wrote `{line}`"));
        Ok(match words[..] {
            ["called", call] => JournalLine::Called(call.parse()?),
            ["ended", call, told, by, at] => {
                let told = Told::from_word(told).ok_or_else(nonsense)?;
                JournalLine::Ended(call.parse()?, told, late(by, at)?)
            }
            ["served", call, by, at] => JournalLine::Served(call.parse()?, late(by, at)?),
            ["stall", length, until] => JournalLine::Stall(time(length)?, time(until)?),
            _ => return Err(nonsense()),
        })
    }
}
