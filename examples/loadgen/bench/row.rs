//! The measurements of one case, by contestant.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    case::Case,
    figures::Figures,
    side::Contestant::{self, Ours, OursTls, Raw64, Raw256, Tokio},
    work::{Task, value_name},
};

pub(super) struct Row {
    pub(super) case: Case,
    samples: BTreeMap<Contestant, Vec<Figures>>,
}

/// Minimum, median and maximum of a measured value.
#[derive(Copy, Clone)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Row {
    pub(super) fn new(case: Case) -> Self {
        Row {
            case,
            samples: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, contestant: Contestant, sample: Figures) {
        self.samples.entry(contestant).or_default().push(sample);
    }

    /// Returns the median of one of the figures.
    pub(super) fn median(&self, contestant: Contestant, name: &str) -> Option<f64> {
        Some(self.spread(contestant, name)?.median)
    }

    /// Returns the faster of the two raw sockets, if they took part.
    pub(super) fn raw(&self) -> Option<Contestant> {
        let rate = |contestant| self.median(contestant, "per_second");
        let [narrow, wide] = [Raw64, Raw256].map(rate);
        match narrow? < wide? {
            true => Some(Raw256),
            false => Some(Raw64),
        }
    }

    /// Returns the rate of one contestant divided by that of another: above 1 the first is faster.
    pub(super) fn ratio(&self, contestant: Contestant, beside: Contestant) -> Option<f64> {
        let rate = |contestant| self.median(contestant, "per_second");
        Some(rate(contestant)? / rate(beside)?)
    }

    /// Returns the median time of a round trip, as a multiple of tokio's.
    pub(super) fn time_to_tokio(&self) -> Option<f64> {
        Some(self.median(Ours, "p50_us")? / self.median(Tokio, "p50_us")?)
    }

    /// Returns the median time of a round trip with TLS, as a multiple of that without.
    pub(super) fn time_of_tls(&self) -> Option<f64> {
        Some(self.median(OursTls, "p50_us")? / self.median(Ours, "p50_us")?)
    }

    fn spread(&self, contestant: Contestant, name: &str) -> Option<Spread> {
        let samples = self.samples.get(&contestant)?.iter();
        let mut values: Vec<_> = samples.filter_map(|sample| sample.get(name)).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0,
            _ => *values.get(middle)?,
        };
        Some(Spread {
            min: *values.first()?,
            median,
            max: *values.last()?,
        })
    }

    pub(super) fn json(&self) -> Value {
        let contestants: Map<_, _> = self
            .samples
            .iter()
            .map(|(&contestant, samples)| {
                let names = samples.iter().flat_map(Figures::names);
                let spreads: Map<_, _> = names
                    .filter_map(|name| {
                        let Spread { min, median, max } = self.spread(contestant, name)?;
                        let spread = json!({ "min": min, "median": median, "max": max });
                        Some((name.to_string(), spread))
                    })
                    .collect();
                (contestant.to_string(), spreads.into())
            })
            .collect();
        let work = &self.case.work;
        let mut row = json!({
            "case": self.case.name,
            "task": value_name(&work.task),
            "size": work.size,
            "frames": work.frames,
            "producers": work.producers,
            "groups": work.groups,
            "peers": work.peers,
            "burst": work.burst,
            "in_flight": work.in_flight,
            "placement": value_name(&work.placement),
            "sessions": work.sessions,
            "contestants": contestants,
        });
        if let Some(raw) = self.raw() {
            row["tokio_to_raw"] = self.ratio(Tokio, raw).into();
            row["ours_to_raw"] = self.ratio(Ours, raw).into();
        }
        if work.task != Task::Idle {
            row["ours_to_tokio"] = self.ratio(Ours, Tokio).into();
        }
        if let Some(times) = self.time_to_tokio() {
            row["time_to_tokio"] = times.into();
        }
        if let Some(times) = self.time_of_tls() {
            row["time_of_tls"] = times.into();
        }
        row
    }
}
