//! [`TraceContext`]: which trace a call belongs to, and which span it comes from.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

/// The bytes of a context in a call.
///
/// ```text
/// offset  size  field
/// 0       1     version    0; a context of another version is ignored
/// 1       16    trace      big-endian, not zero
/// 17      8     parent     big-endian, not zero
/// 25      1     flags      bit 0: the trace is sampled
/// ```
pub(crate) const BYTES: usize = 26;

/// Of the flags: the caller may have recorded the trace.
const SAMPLED: u8 = 1;

/// How long the text of version 0 is. Later versions may add to it.
const TEXT: usize = 55;

/// Which trace a call belongs to, and which span it comes from, as in the
/// [W3C recommendation](https://www.w3.org/TR/trace-context/). As text it is the value of the header `traceparent`, so
/// it can be exchanged with other tracing systems:
///
/// ```
/// use actix_transport::TraceContext;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = text.parse()?;
/// assert_eq!(context.parent_id(), 0x00f0_67aa_0ba9_02b7);
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// # Ok::<_, actix_transport::TraceContextError>(())
/// ```
///
/// The header `tracestate` has no place here, and calls do not carry it: the recommendation lets a system drop it.
#[derive(Copy, Clone, Eq, PartialEq, Hash)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    parent_id: NonZeroU64,
    flags: u8,
}

/// The text is no `traceparent`.
#[derive(Debug, Copy, Clone, Eq, PartialEq, thiserror::Error)]
#[error("this is no `traceparent` such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct TraceContextError;

impl TraceContext {
    /// Makes a context. `None` if one of the ids is zero, which is no id.
    pub fn new(trace_id: u128, parent_id: u64, is_sampled: bool) -> Option<Self> {
        let flags = if is_sampled { SAMPLED } else { 0 };
        TraceContext::with_flags(trace_id, parent_id, flags)
    }

    pub(crate) fn with_flags(trace_id: u128, parent_id: u64, flags: u8) -> Option<Self> {
        Some(TraceContext {
            trace_id: NonZeroU128::new(trace_id)?,
            parent_id: NonZeroU64::new(parent_id)?,
            // The recommendation wants flags that are not known to be zero.
            flags: flags & SAMPLED,
        })
    }

    /// Makes the context of a span that begins a trace.
    pub(crate) fn begin(trace_id: NonZeroU128, span_id: NonZeroU64) -> Self {
        TraceContext {
            trace_id,
            parent_id: span_id,
            flags: SAMPLED,
        }
    }

    /// Returns the id of the trace. Never zero.
    pub fn trace_id(self) -> u128 {
        self.trace_id.get()
    }

    /// Returns the id of the span that the context comes from: the parent of the spans that are opened for it. Never
    /// zero.
    pub fn parent_id(self) -> u64 {
        self.parent_id.get()
    }

    /// Returns whether the caller may have recorded its spans of the trace.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the flags, of which the lowest bit is [`is_sampled`](TraceContext::is_sampled).
    #[cfg(feature = "opentelemetry")]
    pub(crate) fn flags(self) -> u8 {
        self.flags
    }

    /// Returns the same trace with another parent.
    pub(crate) fn of_span(self, parent_id: NonZeroU64) -> Self {
        TraceContext { parent_id, ..self }
    }

    pub(crate) fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[1..17].copy_from_slice(&self.trace_id.get().to_be_bytes());
        bytes[17..25].copy_from_slice(&self.parent_id.get().to_be_bytes());
        bytes[25] = self.flags;
        bytes
    }

    /// Reads what [`encode`](TraceContext::encode) writes. `None` if these bytes are something else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let trace_id = u128::from_be_bytes(*bytes[1..].first_chunk()?);
        let parent_id = u64::from_be_bytes(*bytes[17..].first_chunk()?);
        match bytes[0] {
            0 => TraceContext::with_flags(trace_id, parent_id, bytes[25]),
            _ => None,
        }
    }
}

impl fmt::Display for TraceContext {
    /// Writes it as the value of `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext {
            trace_id,
            parent_id,
            flags,
        } = self;
        write!(f, "00-{trace_id:032x}-{parent_id:016x}-{flags:02x}")
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

impl FromStr for TraceContext {
    type Err = TraceContextError;

    /// Reads the value of `traceparent`. Of a later version it takes what version 0 has.
    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        read(text).ok_or(TraceContextError)
    }
}

fn read(text: &str) -> Option<TraceContext> {
    let (known, added) = text.split_at_checked(TEXT)?;
    let mut parts = known.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = hex(parts.next()?, 32)?;
    let parent_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
    let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
    let added_may_be = match version {
        0 => added.is_empty(),
        // The recommendation rules it out.
        0xff => false,
        _ => added.is_empty() || added.starts_with('-'),
    };
    let context = TraceContext::with_flags(trace_id, parent_id, flags);
    context.filter(|_| added_may_be && parts.next().is_none())
}

/// Reads so many hexadecimal digits. They must be small letters.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let are_digits = text.len() == digits && text.bytes().all(is_digit);
    are_digits
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn it_is_read_from_text_and_bytes_as_it_was_written() {
        let context: TraceContext = TEXT.parse().expect("valid");
        assert_eq!(
            context.trace_id(),
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736
        );
        assert_eq!(context.to_string(), TEXT);
        let bytes = context.encode();
        let expected =
            b"\0\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36\0\xf0\x67\xaa\x0b\xa9\x02\xb7\x01";
        assert_eq!(&bytes, expected);
        assert_eq!(TraceContext::decode(&bytes), Some(context));
        let sampled = [true, false].map(|is| TraceContext::new(1, 2, is).map(|it| it.is_sampled()));
        assert_eq!(sampled, [Some(true), Some(false)]);
    }

    #[test]
    fn flags_of_a_later_version_are_not_passed_on() {
        let text = TEXT.replace("-01", "-ff");
        let read: TraceContext = text.parse().expect("valid");
        assert_eq!(read.to_string(), TEXT);
        let mut bytes = read.encode();
        bytes[25] = 0xfe;
        let read = TraceContext::decode(&bytes).expect("valid");
        assert_eq!(read.encode()[25], 0);
    }

    #[test]
    fn other_bytes_are_no_context() {
        let bytes = TEXT.parse::<TraceContext>().expect("valid").encode();
        for len in 0..BYTES {
            assert_eq!(TraceContext::decode(&bytes[..len]), None);
        }
        assert_eq!(TraceContext::decode(&[&bytes[..], b"\0"].concat()), None);
        for zero in [1..17, 17..25] {
            let mut bytes = bytes;
            bytes[zero].fill(0);
            assert_eq!(TraceContext::decode(&bytes), None);
        }
        let mut later = bytes;
        later[0] = 1;
        assert_eq!(TraceContext::decode(&later), None);
    }

    #[test]
    fn other_text_is_no_context_and_later_versions_may_say_more() {
        let later = ["01", "fe"].map(|version| TEXT.replacen("00", version, 1));
        let more = later.clone().map(|text| text + "-more");
        for text in later.iter().chain(&more) {
            assert_eq!(text.parse::<TraceContext>(), TEXT.parse());
        }
        let wrong = [
            "".to_owned(),
            TEXT[1..].to_owned(),
            format!("{TEXT}-more"),
            format!("{}more", later[0]),
            TEXT.replacen("00", "ff", 1),
            TEXT.to_uppercase(),
            TEXT.replace("-4bf9", "-+bf9"),
            TEXT.replace('-', "é"),
            TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            TEXT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            TEXT.replace("-01", "01-"),
        ];
        for text in wrong {
            let read = text.parse::<TraceContext>();
            assert_eq!(read, Err(TraceContextError), "{text}");
        }
    }
}
