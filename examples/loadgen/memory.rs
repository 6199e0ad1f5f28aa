//! How much memory this process holds, as Linux tells it.

/// Returns one of the sizes in this process' status, in bytes. Not from `getrusage`, whose peak a process inherits
/// from its parent. `None` on other systems.
pub(crate) fn memory(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
