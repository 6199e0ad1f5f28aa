//! Calls: what their callers do, the same for all contestants.
//!
//! As many tasks as calls are to be under way each make one call after the other, with a payload that is written anew.
//! The answer is the payload, which the caller looks at. Time begins after the warm-up.

use bytes::Bytes;

use super::{
    cost::Cost,
    figures::Figures,
    work::{Work, append, touch},
};
use crate::{
    Failure,
    callers::{self, Runtime, Tally},
};

/// Calls before the measurement, so that both sides warm up.
const WARM_UP: u64 = 1_000;

/// Returns how many calls there are, with those of the warm-up.
pub(super) fn total(work: &Work) -> u64 {
    WARM_UP + work.frames
}

/// Makes the calls of one run. `call` makes one.
pub(super) async fn measure<C, F>(
    runtime: &Runtime,
    work: &Work,
    call: C,
) -> Result<Figures, Failure>
where
    C: Fn(Bytes) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Bytes, Failure>> + Send + 'static,
{
    let size = work.size;
    let call = move |number| {
        let mut payload = Vec::with_capacity(size);
        append(&mut payload, size, number);
        let answer = call(payload.into());
        async move {
            touch(&answer.await.map_err(|_| "failed")?);
            Ok(())
        }
    };
    let warm_up = Tally::new(0, WARM_UP)?;
    callers::make(runtime, work.in_flight, &warm_up, call.clone()).await?;

    let cost = Cost::begin();
    let tally = Tally::new(WARM_UP, work.frames)?;
    callers::make(runtime, work.in_flight, &tally, call).await?;
    let figures = cost.figures();
    let (ended, before) = (tally.ended(), warm_up.ended());
    match ended.failed() + before.failed() {
        0 => Ok(figures
            .with("frames", work.frames as f64)
            .with("seconds", ended.seconds())
            .with("p50_us", ended.micros(0.5))
            .with("p99_us", ended.micros(0.99))
            .with("p999_us", ended.micros(0.999))),
        failed => Err(format!("{failed} calls failed").into()),
    }
}
