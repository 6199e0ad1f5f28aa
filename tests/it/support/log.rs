//! The log of one test, as a program with `RUST_LOG=info` would print it.

use std::{
    fmt::{Debug, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::DefaultGuard,
};

/// Collects what is logged on this thread while this lives, from the level INFO up.
pub(crate) struct Log {
    written: Arc<Mutex<Written>>,
    _collecting: DefaultGuard,
    /// While there is a single collector, `tracing` asks the thread that first comes to a line of code
    /// whether anybody collects what is logged there. That may be a thread of another test, where nobody
    /// does, and then the line stays off for all. With two collectors it asks them.
    _second: Dispatch,
}

/// Lines and spans as text, such as `WARN dropped frames peer=10.0.0.2:7000` and
/// `link peer=10.0.0.2:7000`.
#[derive(Default)]
struct Written {
    lines: Vec<String>,
    spans: Vec<String>,
}

impl Log {
    pub(crate) fn collect() -> Self {
        let written = Arc::<Mutex<Written>>::default();
        let second = Dispatch::new(Collector(written.clone()));
        let collector = Collector(written.clone());
        Log {
            written,
            _second: second,
            _collecting: tracing::subscriber::set_default(collector),
        }
    }

    /// Returns the lines that contain this text.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        containing(&self.written.lock().lines, text)
    }

    /// Returns the spans that contain this text.
    pub(crate) fn spans(&self, text: &str) -> Vec<String> {
        containing(&self.written.lock().spans, text)
    }
}

fn containing(all: &[String], text: &str) -> Vec<String> {
    let with_text = all.iter().filter(|line| line.contains(text));
    with_text.cloned().collect()
}

struct Collector(Arc<Mutex<Written>>);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("actix_transport")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut text = Text(attributes.metadata().name().into());
        attributes.record(&mut text);
        let spans = &mut self.0.lock().spans;
        spans.push(text.0);
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().lines.push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The text so far.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("memory");
    }
}
