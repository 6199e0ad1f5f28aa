//! Settings read from a file (feature `serde`): what people write there, and errors that they understand.
//!
//! A value is first read as it is ([`value`]), and then understood by the type of its setting
//! ([`setting`]). So each error can name the field and the value, whatever the format of the file.

mod config;
mod node_config;
mod setting;
mod size;
mod value;

pub use self::node_config::NodeConfig;
pub(super) use self::{setting::Setting, value::Value};
