//! What the value of a setting may be, by its type.

use std::{collections::BTreeMap, time::Duration};

use humantime_serde::re::humantime;
use serde::{Deserialize, Deserializer, de::Error};

use super::{size, value::Value};
use crate::{
    config::{LaneConfig, Overflow, Placement, Sessions},
    lane::Lane,
};

/// A type of settings.
pub(in crate::config) trait Setting: Sized {
    /// Understands the value of this field. An error says what the value is and what it must be, to be
    /// read after the field's name.
    fn read(field: &str, value: &Value) -> Result<Self, String>;
}

fn must_be<T>(value: &Value, what: &str) -> Result<T, String> {
    Err(format!("is {value}, but must be {what}"))
}

/// Returns whether the field is a number of bytes. Other numbers have no units.
fn is_size(field: &str) -> bool {
    let sizes = ["max_frame", "max_message", "max_datagram", "frame_floor"];
    field.ends_with("_bytes") || field.ends_with("_buffer") || sizes.contains(&field)
}

impl Setting for usize {
    fn read(field: &str, value: &Value) -> Result<Self, String> {
        let (number, what) = match is_size(field) {
            true => (size_of(value), r#"a size such as 4096, "64kB" or "10MiB""#),
            false => (number_of(value), "a number"),
        };
        number.map_or_else(|| must_be(value, what), Ok)
    }
}

fn size_of(value: &Value) -> Option<usize> {
    match value {
        Value::Text(text) => size::parse(text),
        other => number_of(other),
    }
}

/// Numbers may come as text: some sources of settings, such as the environment, have nothing else.
fn number_of<N: TryFrom<u64>>(value: &Value) -> Option<N> {
    let number = match value {
        Value::Number(number) => *number,
        Value::Text(text) => text.trim().replace('_', "").parse().ok()?,
        _ => return None,
    };
    N::try_from(number).ok()
}

impl Setting for u32 {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        number_of(value).map_or_else(|| must_be(value, "a number"), Ok)
    }
}

impl Setting for f64 {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        let number = match value {
            Value::Fraction(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            other => number_of::<u32>(other).map(f64::from),
        };
        let number = number.filter(|number| number.is_finite());
        number.map_or_else(|| must_be(value, "a number such as 0.25"), Ok)
    }
}

impl Setting for bool {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        match value {
            Value::Flag(flag) => Ok(*flag),
            Value::Text(text) if text == "true" => Ok(true),
            Value::Text(text) if text == "false" => Ok(false),
            _ => must_be(value, "true or false"),
        }
    }
}

impl Setting for Duration {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        let time = match value {
            Value::Text(text) => humantime::parse_duration(text.trim()).ok(),
            _ => None,
        };
        time.map_or_else(
            || must_be(value, r#"a time with a unit, such as "200ms" or "5s""#),
            Ok,
        )
    }
}

impl Setting for Overflow {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text == "reject_newest" => Ok(Overflow::RejectNewest),
            Value::Text(text) if text == "drop_oldest" => Ok(Overflow::DropOldest),
            _ => must_be(value, r#""reject_newest" or "drop_oldest""#),
        }
    }
}

impl Setting for Sessions {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        let name = match value {
            Value::Text(name) => name,
            _ => "",
        };
        match name {
            "auto" => Ok(Sessions::Auto),
            "off" => Ok(Sessions::Off),
            "optional" => Ok(Sessions::Optional),
            "required" => Ok(Sessions::Required),
            _ => must_be(value, r#""auto", "off", "optional" or "required""#),
        }
    }
}

impl Setting for BTreeMap<Lane, LaneConfig> {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        let Value::Table(table) = value else {
            return must_be(
                value,
                "a table of lanes, such as { control = { queue_bytes = \"1MiB\" } }",
            );
        };
        let lanes = table.iter().map(|(name, value)| {
            let Some(lane) = Lane::from_name(name) else {
                return Err(format!(
                    "has `{name}`, but the lanes are `control`, `bulk` and `lane-3` to `lane-7`"
                ));
            };
            let read = LaneConfig::read(name, value);
            let bounds = read.map_err(|problem| format!("has `{name}`, which {problem}"))?;
            Ok((lane, bounds))
        });
        lanes.collect()
    }
}

impl Setting for LaneConfig {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        let Value::Table(table) = value else {
            return must_be(value, "a table of bounds");
        };
        let mut bounds = LaneConfig::new();
        for (name, value) in table {
            let read = match name.as_str() {
                "queue_frames" => {
                    Setting::read(name, value).map(|it| bounds.queue_frames = Some(it))
                }
                "queue_bytes" => Setting::read(name, value).map(|it| bounds.queue_bytes = Some(it)),
                "stale_after" => Setting::read(name, value).map(|it| bounds.stale_after = Some(it)),
                "overflow" => Setting::read(name, value).map(|it| bounds.overflow = Some(it)),
                "group_share" => Setting::read(name, value).map(|it| bounds.group_share = Some(it)),
                _ => return Err(format!("has `{name}`, which is no bound of a lane")),
            };
            read.map_err(|problem| format!("has `{name}`, which {problem}"))?;
        }
        Ok(bounds)
    }
}

impl Setting for Placement {
    fn read(_: &str, value: &Value) -> Result<Self, String> {
        let (kind, threads) = match value {
            Value::Text(kind) => (Some(kind), None),
            Value::Table(table) if table.len() == 1 => (table.keys().next(), table.values().next()),
            _ => (None, None),
        };
        let mut placement = match kind.map(String::as_str) {
            Some("current") if threads.is_none() => Placement::Current,
            Some("dedicated") => Placement::dedicated(),
            Some("shared") => Placement::shared(),
            _ => {
                let table = "{ dedicated = { readers = 1, writers = 1 } }";
                return must_be(
                    value,
                    &format!(r#""dedicated", "shared", "current" or {table}"#),
                );
            }
        };
        if let Some(threads) = threads {
            match &mut placement {
                Placement::Dedicated { readers, writers } => {
                    read_threads(threads, &mut [("readers", readers), ("writers", writers)])?;
                }
                Placement::Shared { arbiters } => {
                    read_threads(threads, &mut [("arbiters", arbiters)])?;
                }
                Placement::Current => {}
            }
        }
        Ok(placement)
    }
}

/// Reads how many threads there are of each kind. What is missing stays as it is.
fn read_threads(value: &Value, kinds: &mut [(&str, &mut usize)]) -> Result<(), String> {
    let names: Vec<_> = kinds.iter().map(|(name, _)| format!("`{name}`")).collect();
    let names = names.join(" and ");
    let Value::Table(table) = value else {
        return must_be(value, &format!("a table with {names}"));
    };
    for (name, value) in table {
        let Some((_, threads)) = kinds.iter_mut().find(|(kind, _)| kind == name) else {
            return Err(format!("has `{name}`, but may only have {names}"));
        };
        let number: Result<usize, String> = Setting::read(name, value);
        **threads = number.map_err(|problem| format!("has `{name}`, which {problem}"))?;
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Overflow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_alone("overflow", deserializer)
    }
}

impl<'de> Deserialize<'de> for Sessions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_alone("sessions", deserializer)
    }
}

impl<'de> Deserialize<'de> for Placement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_alone("placement", deserializer)
    }
}

/// Reads a setting outside of a [`Config`](crate::Config).
fn read_alone<'de, T: Setting, D: Deserializer<'de>>(
    name: &str,
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    T::read(name, &value).map_err(|problem| D::Error::custom(format!("{name} {problem}")))
}
