//! [`axt_config`]: settings, by their names or from a file.

use std::{collections::BTreeMap, ffi::c_char, fs, sync::Arc};

use actix_transport::{Config, NodeConfig, PeerAddr};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    code::{axt_code, axt_code::*},
    context::axt_context,
    error::{Failure, axt_error},
    guard::{Out, enter, text},
};

/// Settings for a transport. A handle, to be freed with axt_config_free. {0} is none.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct axt_config {
    /// Not to be looked at.
    pub id: u64,
}

/// What a configuration says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// Where to listen, if the file said so.
    pub(crate) listen: Option<String>,
    /// What the file calls the peers.
    pub(crate) peers: BTreeMap<String, PeerAddr>,
}

impl Settings {
    /// Reads a file that is either a table of settings, or has `listen`, `peers` and `config`.
    fn read(path: &str) -> Result<Self, Failure> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|err| Failure::new(AXT_FILE, format_args!("{path}: {err}")))?;
        let bad =
            |code| move |err: toml::de::Error| Failure::new(code, format_args!("{path}: {err}"));
        let table: toml::Table = text.parse().map_err(bad(AXT_FILE))?;
        if !["listen", "peers", "config"]
            .iter()
            .any(|name| table.contains_key(*name))
        {
            let config = toml::from_str(&text).map_err(bad(AXT_CONFIG))?;
            return Ok(Settings {
                config,
                ..Settings::default()
            });
        }
        let listens = table.contains_key("listen");
        // Where this node listens may as well be said by the program. The other order of lines would put
        // the field into a table.
        let text = if listens {
            text
        } else {
            format!("listen = \"\"\n{text}")
        };
        let node: NodeConfig = toml::from_str(&text).map_err(bad(AXT_CONFIG))?;
        Ok(Settings {
            config: node.config,
            listen: listens.then_some(node.listen),
            peers: node.peers,
        })
    }

    /// Sets one field. Takes the way through the fields as they are written to a file, so that a text means the
    /// same in both.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let fault = |err: serde_json::Error| Failure::new(AXT_FAULT, err);
        let mut fields = serde_json::to_value(&self.config).map_err(fault)?;
        let value = match value.trim_start().starts_with('{') {
            true => {
                let table: toml::Table = format!("value = {value}").parse().map_err(|err| {
                    Failure::new(
                        AXT_CONFIG,
                        format_args!("config field `{name}` is no table: {err}"),
                    )
                })?;
                serde_json::to_value(&table["value"]).map_err(fault)?
            }
            false => Value::from(value),
        };
        fields[name] = value;
        self.config = Config::deserialize(fields).map_err(|err| Failure::new(AXT_CONFIG, err))?;
        Ok(())
    }
}

impl axt_context {
    /// Returns the settings of this handle as they are now.
    pub(crate) fn settings(&self, config: axt_config) -> Result<Settings, Failure> {
        let settings = self.configs.get(config.id).ok_or(AXT_BAD_HANDLE)?;
        let settings = settings.lock().clone();
        Ok(settings)
    }
}

/// Makes settings: the defaults, which are those of PhxPaxos, or those for messages of many megabytes
/// (`large_messages`): frames up to 50 MiB, 1,024 of them in a queue, stale after 20 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_config_new(
    context: *const axt_context,
    large_messages: bool,
    config: *mut axt_config,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(config)?;
            let settings = Settings {
                config: match large_messages {
                    true => Config::large_messages(),
                    false => Config::default(),
                },
                ..Settings::default()
            };
            let id = context.configs.insert(Arc::new(Mutex::new(settings)));
            out.put(axt_config { id });
            Ok(())
        })
    }
}

/// Reads settings from a TOML file. It has either the settings by their names, or `listen` (where axt_bind
/// listens if it is given no address), a table `peers` (names that axt_peer_get takes) and a table `config` (the
/// settings); each may be left out.
///
/// AXT_FILE: the file cannot be read or is no TOML. AXT_CONFIG: the text names the field and its value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_config_file(
    context: *const axt_context,
    path: *const c_char,
    config: *mut axt_config,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let out = Out::new(config)?;
            let settings = Settings::read(text(path)?)?;
            let id = context.configs.insert(Arc::new(Mutex::new(settings)));
            out.put(axt_config { id });
            Ok(())
        })
    }
}

/// Sets one field by its name, to a value as text: a number "5000", a size "64MiB", a time "200ms", "true",
/// a word such as "drop_oldest", or a table in the form of TOML, such as "{ control = { queue_bytes = \"1MiB\" } }".
/// Bounds are checked by axt_bind. Transports made before do not change.
///
/// AXT_CONFIG: the text names the field and the value. Nothing is changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_config_set(
    context: *const axt_context,
    config: axt_config,
    name: *const c_char,
    value: *const c_char,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            let settings = context.configs.get(config.id).ok_or(AXT_BAD_HANDLE)?;
            settings.lock().set(text(name)?, text(value)?)
        })
    }
}

/// Ends a handle of settings. Transports made with it keep theirs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn axt_config_free(
    context: *const axt_context,
    config: axt_config,
    error: *mut axt_error,
) -> axt_code {
    // SAFETY: the caller passes null or valid pointers, as the header says.
    unsafe {
        enter(context, error, |context| {
            context.configs.remove(config.id).ok_or(AXT_BAD_HANDLE)?;
            Ok(())
        })
    }
}
