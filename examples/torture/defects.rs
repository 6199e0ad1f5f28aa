//! The suite must be able to fail: each deliberate defect, and the tests that catch it.
//!
//! ```sh
//! cargo run --example torture -- defects             # all of them
//! cargo run --example torture -- defects OffsetKept  # these
//! ```
//!
//! Owns the table. A defect is a line in `src/` that asks `defect!(Name)`, which is compiled in with
//! the feature `defects` and switched on by the environment, so that one build serves all. Without a
//! defect the same tests must pass; with it, each that stands beside it must fail, and say where and
//! with which words, or hang. That it fails for the defect is for the reader to see in them.

use std::{
    collections::BTreeMap,
    env, fmt, io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What names the defect to the tests' processes.
const CHOSEN: &str = "ACTIX_TRANSPORT_DEFECT";

/// A test that has not ended by then hangs. None takes half as long by itself.
const PATIENCE: Duration = Duration::from_secs(100);

struct Defect {
    name: &'static str,
    is: &'static str,
    caught_by: &'static [Test],
}

/// A test, by its name in the program that it is in.
#[derive(Copy, Clone, Eq, Ord, PartialEq, PartialOrd)]
enum Test {
    /// Beside the sources.
    Unit(&'static str),
    /// On real sockets: `tests/it`.
    It(&'static str),
    /// What the fuzzers found: `tests/corpora.rs`.
    Corpus(&'static str),
    /// Every order: `models`.
    Loom(&'static str),
    /// A thousand orders of more threads: `models`.
    Shuttle,
    /// A row of this program.
    Row(&'static str),
}

use Test::{Corpus, It, Loom, Row, Shuttle, Unit};

const DEFECTS: &[Defect] = &[
    Defect {
        name: "OffsetKept",
        is: "how far a frame was written is kept across a redial",
        caught_by: &[
            Unit(
                "send::queue::tests::order::a_lost_link_sends_the_cut_frame_again_whole_and_no_whole_frame_twice",
            ),
            It(
                "links::a_frame_cut_by_the_end_of_a_link_is_sent_again_whole_and_written_ones_are_not",
            ),
            Corpus("the_corpus_of_the_writer_holds"),
            Row("every-byte"),
        ],
    },
    Defect {
        name: "FrameTwice",
        is: "a frame that the kernel took whole is sent again",
        caught_by: &[
            Unit(
                "send::queue::tests::order::a_lost_link_sends_the_cut_frame_again_whole_and_no_whole_frame_twice",
            ),
            Corpus("the_corpus_of_the_writer_holds"),
            Shuttle,
            Row("every-byte"),
        ],
    },
    Defect {
        name: "ReleasedTwice",
        is: "what was written is given back twice",
        caught_by: &[
            Unit(
                "send::queue::tests::bounds::the_queue_keeps_its_bounds_in_frames_and_bytes_and_frames_in_flight_count",
            ),
            Corpus("the_corpus_of_the_queue_holds"),
        ],
    },
    Defect {
        name: "StaleKept",
        is: "what went stale is not given back",
        caught_by: &[
            Unit("send::queue::tests::ageing::dropping_stale_frames_makes_room"),
            Corpus("the_corpus_of_the_queue_holds"),
        ],
    },
    Defect {
        name: "AgeAtPush",
        is: "the age of a frame is looked at only when it is pushed",
        caught_by: &[
            Unit(
                "send::queue::tests::ageing::expire_and_take_drop_stale_frames_and_report_each_drop_once",
            ),
            Corpus("the_corpus_of_the_queue_holds"),
        ],
    },
    Defect {
        name: "AcceptSpins",
        is: "the listener does not wait when it is out of descriptors",
        caught_by: &[
            It(
                "listening::the_listener_waits_while_there_are_no_descriptors_and_then_accepts_again",
            ),
            Row("descriptors"),
        ],
    },
    Defect {
        name: "HeaderTrusted",
        is: "memory is reserved for what a header announces",
        caught_by: &[It(
            "reading::memory_is_allocated_for_the_bytes_that_arrived_and_not_for_the_announced_length",
        )],
    },
    Defect {
        name: "JitterOff",
        is: "all wait equally long before they dial again",
        caught_by: &[
            Unit("runtime::backoff::tests::jitter_reaches_down_to_nothing"),
            Row("storm"),
        ],
    },
    Defect {
        name: "LoadLate",
        is: "a reader's load is counted after the hand-over",
        caught_by: &[
            Unit(
                "runtime::load::tests::a_burst_spreads_evenly_because_load_counts_before_the_hand_over",
            ),
            It("reading::connections_are_spread_evenly_over_readers"),
        ],
    },
    Defect {
        name: "PastBound",
        is: "frames go to a group's actor past the bound of its mailbox",
        caught_by: &[It(
            "backpressure::a_waiting_group_holds_its_sender_back_and_no_frame_is_lost",
        )],
    },
    Defect {
        name: "QueueLost",
        is: "a writer that panics takes the queue with it",
        caught_by: &[It(
            "supervision::a_writer_that_panics_is_restarted_and_every_frame_is_written_once",
        )],
    },
    Defect {
        name: "LostWakeUp",
        is: "the writer lets the lock go between looking and hanging up its bell",
        caught_by: &[Loom("wakes"), Shuttle],
    },
    Defect {
        name: "CountersApart",
        is: "a frame is counted and queued under two locks",
        caught_by: &[Loom("wakes"), Shuttle],
    },
    Defect {
        name: "RoomUntold",
        is: "who waits for room is not told of what went stale",
        caught_by: &[Loom("expires")],
    },
    Defect {
        name: "BegunDropped",
        is: "a frame of which a part is written goes stale",
        caught_by: &[
            Unit(
                "send::queue::tests::ageing::a_batch_that_stalls_drops_what_goes_stale_but_finishes_the_frame_it_began",
            ),
            It(
                "queueing::frames_taken_for_writing_go_stale_when_the_link_gets_stuck_except_a_partly_written_one",
            ),
            Corpus("the_corpus_of_the_queue_holds"),
        ],
    },
    Defect {
        name: "SealLeaks",
        is: "frames are let in after the end",
        caught_by: &[
            Unit(
                "send::queue::tests::ending::a_sealed_queue_refuses_frames_and_the_writer_can_still_write_the_queued_ones",
            ),
            Corpus("the_corpus_of_the_queue_holds"),
            Loom("closes"),
        ],
    },
    Defect {
        name: "StaleUntold",
        is: "nobody is told of what went stale",
        caught_by: &[
            Unit(
                "send::queue::tests::ageing::expire_and_take_drop_stale_frames_and_report_each_drop_once",
            ),
            It("queueing::frames_for_a_peer_that_is_away_go_stale_by_the_clock"),
        ],
    },
    Defect {
        name: "CapKept",
        is: "a connection that ends does not give back its place below the cap of its ip",
        caught_by: &[
            Unit("runtime::load::tests::caps_hold_in_all_and_per_ip_and_are_given_back"),
            It("listening::each_ip_has_a_connection_cap_of_its_own"),
        ],
    },
];

/// Switches each defect on, or those that are named, and says what catches it.
pub(crate) fn run(named: &[String]) -> ExitCode {
    let is_named =
        |defect: &&Defect| named.is_empty() || named.iter().any(|name| name == defect.name);
    let defects: Vec<_> = DEFECTS.iter().filter(is_named).collect();
    let programs = match Programs::build() {
        Ok(programs) => programs,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut tests: Vec<_> = defects
        .iter()
        .flat_map(|defect| defect.caught_by)
        .copied()
        .collect();
    tests.sort_unstable();
    tests.dedup();
    let mut sound = true;
    for test in &tests {
        let (end, took) = programs.run(*test, None);
        if !matches!(end, End::Passed) {
            sound = false;
            println!(
                "BROKEN      without any defect: {test} {end} after {:.1} s",
                took.as_secs_f64()
            );
        }
    }
    println!("{} tests pass without a defect: {sound}", tests.len());
    let mut caught = 0;
    for defect in &defects {
        let ends: Vec<_> = defect
            .caught_by
            .iter()
            .map(|test| (test, programs.run(*test, Some(defect.name))))
            .collect();
        let all = ends.iter().all(|(_, (end, _))| end.caught());
        caught += usize::from(all);
        let verdict = if all { "caught" } else { "NOT caught" };
        println!("{verdict:<10}  {:<13}  {}", defect.name, defect.is);
        for (test, (end, took)) in ends {
            println!("{:27}{end} in {:.1} s: {test}", "", took.as_secs_f64());
        }
    }
    println!("{caught} of {} caught", defects.len());
    match sound && caught == defects.len() && caught > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// How a test came out.
enum End {
    Passed,
    /// With what it said last.
    Failed(String),
    Hung,
}

impl End {
    /// Who fails without a word may have failed for anything.
    fn caught(&self) -> bool {
        match self {
            End::Passed => false,
            End::Failed(words) => !words.is_empty(),
            End::Hung => true,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Passed => f.write_str("passed"),
            End::Failed(words) => write!(f, "failed ({words})"),
            End::Hung => f.write_str("hung"),
        }
    }
}

/// Where and with which words a test failed, out of all that it said: of a row its line, of its last
/// panic the place and the line behind it.
fn words(told: &str) -> String {
    const ENOUGH: usize = 160;

    let mut words = String::new();
    let mut lines = told.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("FAILED") {
            words = line.into();
        } else if let Some((_, place)) = line.split_once("panicked at ") {
            words = format!("{place} {}", lines.next().unwrap_or_default());
        }
    }
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit(name) => write!(f, "{name}"),
            It(name) => write!(f, "it {name}"),
            Corpus(name) => write!(f, "corpora {name}"),
            Loom(name) => write!(f, "loom {name}"),
            Shuttle => write!(f, "shuttle"),
            Row(name) => write!(f, "torture {name}"),
        }
    }
}

impl Test {
    /// Which of the programs it is in, and what that is to be told.
    fn found(self) -> (&'static str, Vec<&'static str>) {
        let exactly = |name| vec!["--exact", name];
        match self {
            Unit(name) => ("actix_transport", exactly(name)),
            It(name) => ("it", exactly(name)),
            Corpus(name) => ("corpora", exactly(name)),
            Loom(name) => ("loom", vec!["gate", name]),
            Shuttle => ("shuttle", vec!["1000"]),
            Row(name) => ("torture", vec![name]),
        }
    }
}

/// The tests, built with all defects in them.
struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    fn build() -> Result<Self, String> {
        let mut programs = BTreeMap::new();
        let features = "--features=defects,failpoints,test-internals,serde";
        let tests = [
            "test",
            "--no-run",
            features,
            "--lib",
            "--test=it",
            "--test=corpora",
        ];
        for words in [
            &tests[..],
            &[
                "build",
                "--manifest-path=models/Cargo.toml",
                "--features=defects",
            ],
            &["build", "--example=torture", features],
        ] {
            let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo)
                .args(words)
                .arg("--message-format=json-render-diagnostics")
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .stderr(Stdio::inherit())
                .output()
                .map_err(|err| format!("cannot run cargo: {err}"))?;
            if !built.status.success() {
                return Err(format!("`cargo {}` failed", words.join(" ")));
            }
            for line in String::from_utf8_lossy(&built.stdout).lines() {
                let message: serde_json::Value =
                    serde_json::from_str(line).map_err(|err| format!("{err}: {line}"))?;
                let name = message["target"]["name"].as_str();
                if let (Some(name), Some(path)) = (name, message["executable"].as_str()) {
                    programs.insert(name.to_owned(), Path::new(path).to_owned());
                }
            }
        }
        Ok(Programs(programs))
    }

    /// Runs one test, with a defect or without.
    fn run(&self, test: Test, defect: Option<&str>) -> (End, Duration) {
        let (program, words) = test.found();
        let began = Instant::now();
        let mut command = Command::new(&self.0[program]);
        command.args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env_remove(CHOSEN).env("RUST_BACKTRACE", "0");
        if let Some(name) = defect {
            command.env(CHOSEN, name);
        }
        let (stdout, told) = io::pipe().expect("a pipe");
        // Both in one, in their order: some say on the one and some on the other why they fail.
        command
            .stderr(told.try_clone().expect("one more"))
            .stdout(told);
        let child = command.spawn().expect("it was built just now");
        // Holds its ends of the pipe.
        drop(command);
        (wait(child, stdout, began), began.elapsed())
    }
}

fn wait(mut child: Child, stdout: io::PipeReader, began: Instant) -> End {
    // Read beside, so that it never waits for us to.
    let told = thread::spawn(move || io::read_to_string(stdout).unwrap_or_default());
    let end = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status.success()),
            _ if began.elapsed() > PATIENCE => break None,
            _ => thread::sleep(Duration::from_millis(5)),
        }
    };
    let Some(success) = end else {
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
        return End::Hung;
    };
    // A name that no test has is no test that passed.
    let told = told.join().unwrap_or_default();
    match success && !told.contains(" 0 passed") {
        true => End::Passed,
        false => End::Failed(words(&told)),
    }
}
