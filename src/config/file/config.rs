//! Reads a [`Config`].

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};

use super::value::Value;
use crate::config::Config;

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadConfig)
    }
}

struct ReadConfig;

impl<'de> Visitor<'de> for ReadConfig {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        while let Some(name) = map.next_key::<String>()? {
            let config = &mut config;
            map.next_value_seed(ReadField { config, name })?;
        }
        Ok(config)
    }
}

/// Reads one field. Fails where the format stands at the value, so that it can show the place.
struct ReadField<'c> {
    config: &'c mut Config,
    name: String,
}

impl<'de> DeserializeSeed<'de> for ReadField<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = Value::deserialize(deserializer)?;
        match self.config.read_field(&self.name, &value) {
            Some(read) => read.map_err(D::Error::custom),
            None => {
                let name = self.name;
                Err(D::Error::custom(format!("unknown config field `{name}`")))
            }
        }
    }
}
