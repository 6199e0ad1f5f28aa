//! Named numbers: what one side measured, and what results from both sides.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

use crate::Failure;

/// Passed as a JSON object from one process to another.
#[derive(Clone, Default)]
pub(super) struct Figures(Map<String, Value>);

impl Figures {
    pub(super) fn with(mut self, name: &str, value: f64) -> Self {
        self.0.insert(name.to_string(), value.into());
        self
    }

    pub(super) fn with_some(self, name: &str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Adds those values of the other side that are missing here.
    pub(super) fn and(mut self, others: Figures) -> Self {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// Combines both sides. The side that measured the time also counted the frames; costs are per
    /// million frames.
    pub(super) fn of_run(frames: u64, sent: &Figures, received: &Figures) -> Self {
        let both = sent.clone().and(received.clone());
        let arrived = both.get("frames").unwrap_or(frames as f64);
        let millions = arrived / 1e6;
        let cpu = |side: &Figures| Some(side.get("cpu")? / millions);
        let (sender, receiver) = (cpu(sent), cpu(received));
        let rate = both.get("seconds").map(|seconds| arrived / seconds);
        let sum = sender.zip(receiver).map(|(one, other)| one + other);

        let mut figures = Figures::default()
            .with_some("per_second", rate)
            .with_some("cpu", sum)
            .with_some("sender_cpu", sender)
            .with_some("receiver_cpu", receiver)
            .with_some("sender_peak", sent.get("peak"))
            .with_some("receiver_peak", received.get("peak"));
        if arrived < frames as f64 {
            figures = figures.with("lost", 1.0 - arrived / frames as f64);
        }
        // Values that only some cases have.
        const COMMON: [&str; 5] = ["seconds", "frames", "cpu", "peak", "lost"];
        for name in both.names().filter(|name| !COMMON.contains(name)) {
            figures = figures.with_some(name, both.get(name));
        }
        figures
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_string(&self.0) {
            Ok(text) => f.write_str(&text),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl FromStr for Figures {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Ok(Figures(serde_json::from_str(text)?))
    }
}
