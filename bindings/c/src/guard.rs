//! What every entry from C does first: no panic passes, and no pointer is used unchecked.

use std::{
    ffi::{CStr, c_char, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
};

use crate::{
    code::{axt_code, axt_code::*},
    context::axt_context,
    error::{Failure, axt_error},
    living::{on_living_thread, on_new_thread},
};

/// Runs `call`. If it fails or panics, `error` gets the details and the code is returned.
///
/// # Safety
///
/// `error` is null, or points to an `axt_error` that nobody else uses.
#[inline]
pub(crate) unsafe fn catch(
    error: *mut axt_error,
    call: impl FnOnce() -> Result<(), Failure>,
) -> axt_code {
    // What a panic leaves half done is behind locks that are not poisoned, or belongs to the crate, which
    // is made to survive panics.
    let called = catch_unwind(AssertUnwindSafe(call));
    let failure = match called {
        Ok(Ok(())) => return AXT_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            // Dropping what was thrown may panic again.
            std::mem::forget(panic);
            AXT_FAULT.into()
        }
    };
    // SAFETY: as the caller promises.
    unsafe { failure.report(error) }
}

/// Runs `call` with the context, if this process has made it.
///
/// # Safety
///
/// `context` is null or was returned by `axt_context_new` and not freed. `error` as for [`catch`].
#[inline]
pub(crate) unsafe fn enter(
    context: *const axt_context,
    error: *mut axt_error,
    call: impl FnOnce(&axt_context) -> Result<(), Failure>,
) -> axt_code {
    // SAFETY: as the caller promises.
    unsafe { enter_living(context, error, |context| on_living_thread(|| call(context))) }
}

/// As [`enter`], but does not ask whether the thread [is living](crate::living::is_living). What is called with every
/// message asks itself, and calls itself [elsewhere] if it is not. With [`enter`], the compiler has two places for `call`
/// and inlines it at neither, and a send of 64 bytes took half as long again.
///
/// # Safety
///
/// As for [`enter`].
#[inline]
pub(crate) unsafe fn enter_living(
    context: *const axt_context,
    error: *mut axt_error,
    call: impl FnOnce(&axt_context) -> Result<(), Failure>,
) -> axt_code {
    // SAFETY: as the caller promises.
    unsafe {
        catch(error, || {
            let context = context.as_ref().ok_or(AXT_NULL)?;
            // Before any lock: in a forked process nobody may ever release it.
            match context.shared.process.is_forked() {
                true => Err(AXT_FORKED.into()),
                false => call(context),
            }
        })
    }
}

/// Calls a function of C on a new thread, because this one has ended.
///
/// # Safety
///
/// As for [`catch`].
#[cold]
pub(crate) unsafe fn elsewhere(error: *mut axt_error, call: impl FnOnce() -> axt_code) -> axt_code {
    let mut returned = AXT_OK;
    // SAFETY: as the caller promises.
    let called = unsafe {
        catch(error, || {
            returned = on_new_thread(|| Ok(call()))?;
            Ok(())
        })
    };
    match called {
        AXT_OK => returned,
        failed => failed,
    }
}

/// Returns the text at `text`.
///
/// # Safety
///
/// `text` is null, or points to bytes with a zero at their end, which nobody changes meanwhile.
pub(crate) unsafe fn text<'t>(text: *const c_char) -> Result<&'t str, Failure> {
    // SAFETY: as the caller promises.
    unsafe { optional_text(text)?.ok_or_else(|| AXT_NULL.into()) }
}

/// Returns the text at `text`. `None` if that is null.
///
/// # Safety
///
/// As for [`text`].
pub(crate) unsafe fn optional_text<'t>(text: *const c_char) -> Result<Option<&'t str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| AXT_BAD_TEXT.into())
}

/// Returns the `count` texts at `all`, which may be null if there are none.
///
/// # Safety
///
/// `all` points to `count` pointers, each as for [`text`].
pub(crate) unsafe fn texts<'t>(
    all: *const *const c_char,
    count: usize,
) -> Result<Vec<&'t str>, Failure> {
    if count > 0 && all.is_null() {
        return Err(AXT_NULL.into());
    }
    // SAFETY: as the caller promises.
    let text_at = |at| unsafe { text(*all.add(at)) };
    (0..count).map(text_at).collect()
}

/// Returns the `len` bytes at `bytes`, which may be null if there are none.
///
/// # Safety
///
/// `bytes` points to `len` bytes, which nobody changes meanwhile.
#[inline]
pub(crate) unsafe fn bytes<'b>(bytes: *const c_void, len: usize) -> Result<&'b [u8], Failure> {
    match (bytes.is_null(), isize::try_from(len)) {
        (_, Ok(0)) => Ok(&[]),
        (true, _) => Err(AXT_NULL.into()),
        (false, Err(_)) => Err(AXT_BAD_VALUE.into()),
        // SAFETY: as the caller promises; the length is one that memory can have.
        (false, Ok(_)) => Ok(unsafe { slice::from_raw_parts(bytes.cast(), len) }),
    }
}

/// A place of the caller for a result.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    ///
    /// `place` is null, or points to memory for a `T` that nobody else uses during the call.
    pub(crate) unsafe fn new(place: *mut T) -> Result<Self, Failure> {
        match place.is_null() {
            true => Err(AXT_NULL.into()),
            false => Ok(Out(place)),
        }
    }

    pub(crate) fn put(self, value: T) {
        // SAFETY: as `new` was promised. What was there is overwritten and not dropped, because the caller may
        // not have set it.
        unsafe { ptr::write(self.0, value) };
    }
}
