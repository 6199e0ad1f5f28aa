//! The spans of one test, as a program with a subscriber would see them.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

/// Collects the spans of this thread while this lives.
pub(crate) struct Spans {
    seen: Seen,
    _collecting: DefaultGuard,
    /// As in [`Log`](super::Log).
    _second: Dispatch,
}

/// A span with its fields as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenSpan {
    pub(crate) target: &'static str,
    /// The name of the span that it is in.
    pub(crate) inside: Option<&'static str>,
    pub(crate) fields: BTreeMap<&'static str, String>,
    pub(crate) is_closed: bool,
}

type Seen = Arc<Mutex<Vec<(span::Id, SeenSpan)>>>;

impl SeenSpan {
    /// Returns a field, or nothing if it has no value.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Spans {
    pub(crate) fn collect() -> Self {
        Spans::collect_with(Registry::default())
    }

    /// Collects them beside another subscriber, which keeps them.
    pub(crate) fn collect_with<S>(kept: S) -> Self
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
    {
        let seen = Seen::default();
        let collector = kept.with(Collector(seen.clone()));
        Spans {
            seen,
            _second: Dispatch::new(Registry::default()),
            _collecting: tracing::subscriber::set_default(collector),
        }
    }

    /// Returns the spans of calls on one side, in the order in which they were opened: `client` or `server`.
    pub(crate) fn of_calls(&self, side: &str) -> Vec<SeenSpan> {
        let seen = self.seen.lock();
        let of_calls = seen.iter().filter(|(_, span)| {
            span.target == "actix_transport::call" && span.field("otel.kind") == side
        });
        of_calls.map(|(_, span)| span.clone()).collect()
    }
}

struct Collector(Seen);

impl Collector {
    fn change(&self, id: &span::Id, change: impl FnOnce(&mut SeenSpan)) {
        let mut seen = self.0.lock();
        // The number of a closed span is given to another one.
        let span = seen.iter_mut().rfind(|(known, _)| known == id);
        if let Some((_, span)) = span {
            change(span);
        }
    }
}

impl<S> Layer<S> for Collector
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let known = ctx.span(id).expect("the registry has it");
        let mut span = SeenSpan {
            target: attributes.metadata().target(),
            inside: known.parent().map(|parent| parent.name()),
            ..SeenSpan::default()
        };
        attributes.record(&mut span);
        self.0.lock().push((id.clone(), span));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| values.record(span));
    }

    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        self.change(&id, |span| span.is_closed = true);
    }
}

impl Visit for SeenSpan {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}
