//! [`RemoteMessage`]: what makes an actix message one that actors of other nodes can be asked with.

use actix::Message;

use crate::remote::codec::Codec;

/// A message that can be sent to actors of other nodes: an actix [`Message`] with an id and a [`Codec`].
///
/// Mostly derived. The derive is of the same name, and comes with the feature `remote`:
///
/// ```
/// use actix::prelude::*;
/// use actix_transport::RemoteMessage;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, RemoteMessage, Serialize, Deserialize)]
/// #[rtype(result = "Option<String>")]
/// #[remote(id = 7)]
/// struct Get {
///     key: String,
/// }
/// ```
///
/// `#[remote(…)]` takes `id`, which must be given, and `version`, `max_bytes` and `codec`, which are the constants and
/// the type below: `#[remote(id = 7, version = 2, max_bytes = 65_536, codec = Json)]`. Without the derive, two items
/// are enough:
///
/// ```
/// # use actix::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// use actix_transport::{Postcard, RemoteMessage};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "Option<String>")]
/// struct Get {
///     key: String,
/// }
///
/// impl RemoteMessage for Get {
///     const ID: u32 = 7;
///     type Codec = Postcard;
/// }
/// ```
///
/// The codec must take the message and its result. This one does not compile, because nothing says how to write `Get`:
///
/// ```compile_fail
/// # use actix::prelude::*;
/// # use actix_transport::RemoteMessage;
/// #[derive(Message, RemoteMessage)]
/// #[rtype(result = "Option<String>")]
/// #[remote(id = 7)]
/// struct Get {
///     key: String,
/// }
/// ```
///
/// How to change a message while nodes of two releases share a cluster is in the
/// [guide](crate::guide#add-a-field-to-a-typed-message).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to other nodes",
    note = "derive it: `#[derive(Message, RemoteMessage)]` with `#[remote(id = …)]`, or implement `RemoteMessage`"
)]
pub trait RemoteMessage: Message<Result: Send> + Send + Sized + 'static {
    /// Which message it is, among those of a group. Must never change.
    const ID: u32;

    /// Raised when nodes that know only former versions must not take the message any more: they refuse it
    /// ([`RemoteError::Version`](crate::RemoteError::Version)). Older versions are still taken. 1 at first.
    const VERSION: u16 = 1;

    /// The longest encoded message, and the longest encoded result. Longer ones are not sent, and not decoded when they
    /// come. Without this, what a call may have is the bound: [`Config::max_message`](crate::Config::max_message),
    /// [`Config::served_call_bytes`](crate::Config::served_call_bytes).
    const MAX_BYTES: usize = usize::MAX;

    /// How messages and their results become bytes.
    type Codec: Codec<Self> + Codec<Self::Result>;

    /// Returns what errors call the message.
    fn name() -> &'static str {
        std::any::type_name::<Self>()
    }
}
