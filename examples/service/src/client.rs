//! A client: adds to a counter again and again, and checks each answer.

use std::{sync::mpsc::SyncSender, time::Duration, time::Instant};

use crate::web;

/// How much longer than the deadline an answer may take, on a computer that is busy.
const SLACK: Duration = Duration::from_secs(1);

/// How a request ended.
pub(crate) struct Outcome {
    pub(crate) client: usize,
    /// The node whose counter it is.
    pub(crate) owner: usize,
    pub(crate) status: u16,
    /// What the node says: the value of the counter, or why there is none.
    pub(crate) text: String,
}

/// Asks until nobody wants the outcomes any more, or one is wrong.
pub(crate) fn run(
    (client, owner, nodes): (usize, usize, usize),
    http: &str,
    outcomes: &SyncSender<Result<Outcome, String>>,
) {
    let mut names = (0..).map(|number| format!("{client}-{number}"));
    let name = names.find(|name| web::owner(name, nodes) == owner);
    let url = format!("http://{http}/counters/{}", name.expect("there are many"));
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent = config.build().new_agent();
    let (mut counted, mut in_doubt) = (0, 0);
    loop {
        let asked = Instant::now();
        let answer = ask(&agent, &url).map_err(|err| err.to_string());
        let outcome = answer.and_then(|(status, text)| {
            match (status, text.parse::<u64>()) {
                _ if asked.elapsed() > web::DEADLINE + SLACK => return Err("too late".into()),
                // No request counts twice. An owner that was started again begins at zero.
                (200, Ok(value)) if value <= counted + 1 + in_doubt => {
                    (counted, in_doubt) = (value, 0);
                }
                (504, _) => in_doubt += 1,
                (503, _) => {}
                _ => return Err(format!("{text} after {counted} and {in_doubt} in doubt")),
            }
            Ok(Outcome {
                client,
                owner,
                status,
                text,
            })
        });
        if outcomes.send(outcome).is_err() {
            return;
        }
    }
}

fn ask(agent: &ureq::Agent, url: &str) -> Result<(u16, String), ureq::Error> {
    let mut response = agent.post(url).send_empty()?;
    let text = response.body_mut().read_to_string()?;
    Ok((response.status().as_u16(), text))
}
