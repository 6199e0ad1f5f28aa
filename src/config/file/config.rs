//! Reads a [`Config`].

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::value::Value;
use crate::config::Config;

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadConfig)
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

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Config, E> {
        not_a_table(&Value::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Config, E> {
        not_a_table(&Value::Other(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Config, E> {
        not_a_table(&Value::Number(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Config, E> {
        not_a_table(&Value::Fraction(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Config, E> {
        not_a_table(&Value::Text(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Config, E> {
        not_a_table(&Value::Other("empty".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Config, A::Error> {
        not_a_table(&Value::Other("a list".to_owned()))
    }
}

/// Without this, the error would be in the words of serde.
fn not_a_table<E: Error>(value: &Value) -> Result<Config, E> {
    Err(E::custom(format!(
        "config is {value}, but must be a table of settings"
    )))
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
