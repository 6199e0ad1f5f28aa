//! Running a test in a process of its own, for tests that look at the whole process.

use std::process::Command;

/// Runs a test in a process of its own. It looks at something that belongs to the whole process,
/// and other tests share this process.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    let tests = std::env::current_exe().expect("this program");
    rerun(Command::new(tests), name, test);
}

/// Like [`alone`], but first the shell runs `before` in the new process, to set its limits or its
/// environment.
pub(crate) fn alone_after(before: &str, name: &str, test: impl FnOnce()) {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} && exec \"$0\" \"$@\"")]);
    shell.arg(std::env::current_exe().expect("this program"));
    rerun(shell, name, test);
}

fn rerun(mut tests: Command, name: &str, test: impl FnOnce()) {
    const ALONE: &str = "TEST_ALONE";

    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let output = tests
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(told.contains("1 passed"), "not run: {told}");
}

/// The names of this process's threads, sorted, without the one of `bind` that makes room for descriptors and
/// ends soon.
pub(crate) fn threads() -> Vec<String> {
    let all = std::fs::read_dir("/proc/self/task").expect("linux");
    let mut names: Vec<_> = all
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim_end() != "actix-transp-fd")
        .collect();
    names.sort();
    names
}
