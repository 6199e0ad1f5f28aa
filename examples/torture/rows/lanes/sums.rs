//! Sums over the frames of a lane, and what must hold between them.

/// What must hold between the sums.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Since {
    /// The receiver has been the same since the row compared last, and the senders, too.
    Compared,
    /// It may have missed what came before it did.
    Killed,
}

/// What became of the frames of one lane of all senders.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct Sums {
    pub(super) accepted: u64,
    pub(super) received: u64,
    pub(super) missing: u64,
    pub(super) stale: u64,
    pub(super) evicted: u64,
    pub(super) replaced: u64,
}

impl Sums {
    /// Describes them for the figures, with the parts of messages.
    pub(super) fn describe(self, parts: u64) -> String {
        let Sums {
            accepted,
            received,
            missing,
            stale,
            evicted,
            replaced,
        } = self;
        let parts = match parts {
            0 => String::new(),
            parts => format!(" + {parts} parts"),
        };
        format!(
            "{accepted} accepted, {received} received{parts} + {missing} told as missing, {stale} stale, \
            {evicted} evicted, {replaced} replaced"
        )
    }
}

/// The frames of the bulk lanes of all senders. Which sender the parts are of is not known.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    accepted: u64,
    known: u64,
    begin: (u64, u64),
}

impl Bulk {
    pub(super) fn add(&mut self, accepted: u64, known: u64, begin: (u64, u64)) {
        self.accepted += accepted;
        self.known += known;
        self.begin.0 += begin.0;
        self.begin.1 += begin.1;
    }

    /// Returns whether so many parts came, and frames before the receiver did, that it is everything. After kills
    /// some of the parts may be of a sender that is dead.
    pub(super) fn is_explained_by(&self, parts: u64, since: Since) -> bool {
        let Some(rest) = self.accepted.checked_sub(self.known) else {
            return false;
        };
        let least = match since {
            Since::Compared => self.begin.0 + parts,
            Since::Killed => self.begin.0,
        };
        (least..=self.begin.1 + parts).contains(&rest)
    }
}
