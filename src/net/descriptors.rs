//! How many descriptors this process may have. Every socket takes one.

/// Returns the limit at this moment; `None` if there is none, or if the system cannot be asked.
pub(crate) fn limit() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let limit = None::<u64>;
    limit.and_then(|limit| usize::try_from(limit).ok())
}
