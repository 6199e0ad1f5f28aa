//! [`axt_code`]: what every function returns.

use std::ffi::c_char;

/// How a call ended. Every function that can fail returns one of these.
#[repr(C)]
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub enum axt_code {
    /// It worked.
    AXT_OK = 0,
    /// A pointer that must not be null is null.
    AXT_NULL = 1,
    /// The handle was never given out by this context, or it has ended.
    AXT_BAD_HANDLE = 2,
    /// A text is not UTF-8.
    AXT_BAD_TEXT = 3,
    /// A number is out of its bounds: a lane above 7, too many threads, or a length that no memory has.
    AXT_BAD_VALUE = 4,
    /// A setting is unknown, cannot be read, or is out of its bounds. The text names the field.
    AXT_CONFIG = 5,
    /// A file cannot be read, or is no TOML.
    AXT_FILE = 6,
    /// The text is no address, or no peer can be reached at it.
    AXT_ADDRESS = 7,
    /// Somebody else listens on the address already.
    AXT_IN_USE = 8,
    /// The address cannot be bound for another reason.
    AXT_BIND = 9,
    /// The identity of the node cannot be used.
    AXT_IDENTITY = 10,
    /// The keys cannot be used.
    AXT_TLS = 11,
    /// The transport is not bound yet, or it is bound already and this must be said before.
    AXT_STATE = 12,
    /// The transport is stopping or has stopped.
    AXT_STOPPED = 13,
    /// The queue is full, or the group has used up its share of it. The same send may succeed later.
    AXT_FULL = 14,
    /// The message is longer than a frame or a datagram may be.
    AXT_TOO_LARGE = 15,
    /// The group is served already.
    AXT_GROUP_TAKEN = 16,
    /// Group 0xFFFFFFFF cannot be used.
    AXT_GROUP_RESERVED = 17,
    /// The transport knows as many peers as it may.
    AXT_TOO_MANY_PEERS = 18,
    /// The transport has forgotten the peer, and this is a handle from before that.
    AXT_FORGOTTEN = 19,
    /// Datagrams are switched off.
    AXT_NO_DATAGRAMS = 20,
    /// There was no room in the queue in time.
    AXT_TIMEOUT = 21,
    /// The function waits, and may not be called from a callback.
    AXT_IN_CALLBACK = 22,
    /// The context was made by another process, from which this one was forked.
    AXT_FORKED = 23,
    /// The system refused something that the transport needs, such as a thread.
    AXT_SYSTEM = 24,
    /// The sender did not introduce itself, so it cannot be answered.
    AXT_UNKNOWN_SENDER = 25,
    /// A fault of this library.
    AXT_FAULT = 26,
}

use axt_code::*;

/// Returns what a code means, in English. The text is constant and never freed. Any number is allowed.
/// May be called from any thread, also in a forked process.
#[unsafe(no_mangle)]
pub extern "C" fn axt_error_text(code: i32) -> *const c_char {
    text_of(code).as_ptr()
}

const ALL: [(axt_code, &std::ffi::CStr); 27] = [
    (AXT_OK, c"ok"),
    (AXT_NULL, c"a pointer that must not be null is null"),
    (AXT_BAD_HANDLE, c"no such handle, or it has ended"),
    (AXT_BAD_TEXT, c"a text is not UTF-8"),
    (AXT_BAD_VALUE, c"a number is out of its bounds"),
    (AXT_CONFIG, c"a setting cannot be used"),
    (AXT_FILE, c"a file cannot be read"),
    (AXT_ADDRESS, c"no usable address"),
    (AXT_IN_USE, c"the address is in use"),
    (AXT_BIND, c"the address cannot be bound"),
    (AXT_IDENTITY, c"the identity of the node cannot be used"),
    (AXT_TLS, c"the keys cannot be used"),
    (
        AXT_STATE,
        c"the transport is not bound yet, or bound already",
    ),
    (AXT_STOPPED, c"the transport has stopped"),
    (AXT_FULL, c"the queue is full"),
    (AXT_TOO_LARGE, c"the message is too long"),
    (AXT_GROUP_TAKEN, c"the group is served already"),
    (AXT_GROUP_RESERVED, c"the group is reserved"),
    (AXT_TOO_MANY_PEERS, c"too many peers"),
    (AXT_FORGOTTEN, c"the peer was forgotten"),
    (AXT_NO_DATAGRAMS, c"datagrams are switched off"),
    (AXT_TIMEOUT, c"no room in the queue in time"),
    (AXT_IN_CALLBACK, c"not allowed in a callback"),
    (
        AXT_FORKED,
        c"the context belongs to the process that this one was forked from",
    ),
    (AXT_SYSTEM, c"the system refused something that is needed"),
    (AXT_UNKNOWN_SENDER, c"the sender did not introduce itself"),
    (AXT_FAULT, c"a fault of this library"),
];

pub(crate) fn text_of(code: i32) -> &'static std::ffi::CStr {
    let known = ALL.iter().find(|(known, _)| *known as i32 == code);
    known.map_or(c"no code of this library", |(_, text)| text)
}
