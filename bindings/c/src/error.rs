//! [`axt_error`], where a function puts the details of a failure, and [`Failure`], which is one on its way there.

use std::{
    ffi::c_char,
    fmt::{self, Write},
};

use actix_transport::{BindError, PeerError, RegisterError, SendError};

use crate::code::{axt_code, axt_code::*, text_of};

/// How many bytes the text of an error may have, with the zero at its end.
pub const AXT_ERROR_TEXT: usize = 512;

/// The details of a failure. It belongs to the caller, who passes a pointer to it as the last argument, or
/// null if only the code matters. It is written only if the call fails.
#[repr(C)]
pub struct axt_error {
    /// The code that the function returned.
    pub code: axt_code,
    /// What went wrong, in English, with a zero at its end. Names the field, address or group at fault. A text
    /// that is too long is cut.
    pub text: [c_char; AXT_ERROR_TEXT],
}

impl axt_error {
    fn fill(&mut self, failure: &Failure) {
        self.code = failure.code();
        let (mut left, mut at) = (AXT_ERROR_TEXT - 1, 0);
        // Whole characters only. A zero would end the text for C.
        for c in failure
            .text()
            .chars()
            .map(|c| if c == '\0' { ' ' } else { c })
        {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            if bytes.len() > left {
                break;
            }
            for &byte in bytes {
                self.text[at] = byte as c_char;
                at += 1;
            }
            left -= bytes.len();
        }
        self.text[at] = 0;
    }
}

/// Why a call failed. Fits two registers: every call returns one, or none.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the code means says it all.
    Code(axt_code),
    Detailed(Box<(axt_code, String)>),
}

impl Failure {
    #[cold]
    pub(crate) fn new(code: axt_code, text: impl fmt::Display) -> Self {
        let mut written = String::new();
        let _ = write!(written, "{text}");
        Failure::Detailed(Box::new((code, written)))
    }

    fn code(&self) -> axt_code {
        match self {
            Failure::Code(code) => *code,
            Failure::Detailed(detailed) => detailed.0,
        }
    }

    fn text(&self) -> &str {
        match self {
            Failure::Code(code) => text_of(*code as i32).to_str().unwrap_or_default(),
            Failure::Detailed(detailed) => &detailed.1,
        }
    }

    /// Puts it where the caller wants it.
    ///
    /// # Safety
    ///
    /// `error` is null, or points to an `axt_error` that nobody else uses.
    #[cold]
    pub(crate) unsafe fn report(&self, error: *mut axt_error) -> axt_code {
        // SAFETY: as the caller promises. Any bytes are a valid text, and the code is overwritten as raw memory
        // first, because the caller may not have set it.
        unsafe {
            if !error.is_null() {
                (&raw mut (*error).code).write(self.code());
                (&raw mut (*error).text).write([0; AXT_ERROR_TEXT]);
                (*error).fill(self);
            }
        }
        self.code()
    }

    /// Makes it of what a send returned. The text is made only if somebody will read it: a full queue is no
    /// rare thing.
    pub(crate) fn of_send<P>(err: &SendError<P>, readers: bool) -> Self {
        let code = match err {
            SendError::Full { .. } => AXT_FULL,
            SendError::TooLarge { .. } => AXT_TOO_LARGE,
            SendError::Stopped { .. } => AXT_STOPPED,
            SendError::Forgotten { .. } => AXT_FORGOTTEN,
            SendError::ReservedGroup { .. } => AXT_GROUP_RESERVED,
            SendError::Address { .. } => AXT_ADDRESS,
            SendError::TooManyPeers { .. } => AXT_TOO_MANY_PEERS,
            SendError::NoDatagrams { .. } => AXT_NO_DATAGRAMS,
            _ => AXT_FAULT,
        };
        match readers {
            true => Failure::new(code, err),
            false => code.into(),
        }
    }
}

impl From<axt_code> for Failure {
    fn from(code: axt_code) -> Self {
        Failure::Code(code)
    }
}

impl From<PeerError> for Failure {
    fn from(err: PeerError) -> Self {
        let code = match &err {
            PeerError::Stopped => AXT_STOPPED,
            PeerError::TooMany { .. } => AXT_TOO_MANY_PEERS,
            _ => AXT_ADDRESS,
        };
        Failure::new(code, err)
    }
}

impl From<RegisterError> for Failure {
    fn from(err: RegisterError) -> Self {
        let code = match &err {
            RegisterError::Taken(_) => AXT_GROUP_TAKEN,
            RegisterError::Reserved => AXT_GROUP_RESERVED,
            RegisterError::Stopped => AXT_STOPPED,
            _ => AXT_FAULT,
        };
        Failure::new(code, err)
    }
}

impl From<BindError> for Failure {
    fn from(err: BindError) -> Self {
        let code = match err {
            BindError::Register(err) => return err.into(),
            BindError::Peer(err) => return err.into(),
            BindError::Config(_) => AXT_CONFIG,
            BindError::Bind { ref source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => AXT_IN_USE,
                _ => AXT_BIND,
            },
            BindError::Identity(_) => AXT_IDENTITY,
            BindError::Tls(_) => AXT_TLS,
            BindError::NoSystem => {
                let text = "config field `placement` is current, but a program in C has no arbiter";
                return Failure::new(AXT_CONFIG, text);
            }
            _ => AXT_FAULT,
        };
        Failure::new(code, err)
    }
}
