//! The web handler: asks the node that owns a counter, and says what is known if there is no answer.

use std::time::Duration;

use actix_transport::{CallError, RemoteError, RemoteRecipient};
use actix_web::{Result, error::InternalError, http::StatusCode, web};

use crate::counters::Increment;

/// How long a handler waits for the owner.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// The counters of each node. Those of this node are asked in the same way.
pub(crate) type Owners = Vec<RemoteRecipient<Increment>>;

pub(crate) fn routes(service: &mut web::ServiceConfig) {
    service.route("/counters/{counter}", web::post().to(increment));
}

async fn increment(counter: web::Path<String>, owners: web::Data<Owners>) -> Result<String> {
    let counter = counter.into_inner();
    let owner = &owners[owner(&counter, owners.len())];
    match owner.send(Increment { counter }).deadline(DEADLINE).await {
        Ok(value) => Ok(value.to_string()),
        Err(why) => Err(InternalError::new(why.to_string(), status(&why)).into()),
    }
}

/// Returns which of the nodes a counter belongs to.
pub(crate) fn owner(counter: &str, nodes: usize) -> usize {
    counter.bytes().map(usize::from).sum::<usize>() % nodes
}

fn status(why: &RemoteError) -> StatusCode {
    let RemoteError::Call(why) = why else {
        return StatusCode::INTERNAL_SERVER_ERROR; // the two nodes do not understand each other
    };
    match why {
        // Nothing has been counted, and nothing will be: the client may ask again.
        why if !why.may_be_served() => StatusCode::SERVICE_UNAVAILABLE,
        // Nobody knows whether it was counted.
        CallError::Lost { .. } | CallError::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
        // The handler has failed, or this node is being stopped.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
