//! Configuration keys and the macros that define them: one row per key, from which everything else is derived.
//!
//! Invariant: this module knows no particular key and imports nothing of this crate but `fraction` and `range`; each crate defines its
//! own sections with the macros.

use super::fraction::number;
use core::fmt::{self, Display, Formatter};
use toml::Value;

pub use super::range::Range;

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A non-negative integer.
    Count,
    /// A floating-point number; integers are accepted, and fractions as strings, such as "8/255".
    Number,
    /// `true` or `false`.
    Switch,
    /// Any string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A list of non-negative integers, of this length if given.
    Counts(Option<usize>),
    /// A list of tables.
    Tables,
}

impl Kind {
    /// Converts `value` to this kind; an integer or a fraction becomes a floating-point number where one is expected.
    ///
    /// # Errors
    /// What was expected and what was found, if the value is of another kind.
    pub fn accept(self, value: Value) -> Result<Value, String> {
        let count = |v: &Value| v.as_integer().is_some_and(|i| i >= 0);
        let fits = match (self, &value) {
            (Self::Number, Value::Integer(i)) => return Ok(Value::Float(*i as f64)),
            (Self::Number, Value::String(text)) if text.contains('/') => match number(text) {
                Some(v) => return Ok(Value::Float(v)),
                None => false,
            },
            (Self::Number, Value::Float(_)) | (Self::Switch, Value::Boolean(_)) => true,
            (Self::Count, v) => count(v),
            (Self::Text, Value::String(_)) => true,
            (Self::Choice(all), Value::String(v)) => all.contains(&v.as_str()),
            (Self::Tables, Value::Array(a)) => a.iter().all(Value::is_table),
            (Self::Counts(n), Value::Array(a)) => a.iter().all(count) && n.is_none_or(|n| n == a.len()),
            _ => false,
        };
        if fits { Ok(value) } else { Err(format!("expects {}, got {}", self.expected(), describe(&value))) }
    }

    /// Whether values of this kind are strings.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Choice(_))
    }

    /// The expectation as error messages state it.
    fn expected(self) -> String {
        match self {
            Self::Count => "a whole number, 0 or above".to_string(),
            Self::Number => "a number".to_string(),
            Self::Switch => "true or false".to_string(),
            Self::Text => "a string".to_string(),
            Self::Choice(all) => {
                format!("one of {}", all.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "))
            }
            Self::Counts(Some(n)) => format!("a list of {n} whole numbers, 0 or above"),
            Self::Tables => "a list of tables".to_string(),
            Self::Counts(None) => "a list of whole numbers, 0 or above".to_string(),
        }
    }
}

/// The kind as the description of a key states it.
impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("whole number"),
            Self::Number => f.write_str("number"),
            Self::Switch => f.write_str("true or false"),
            Self::Text => f.write_str("text"),
            Self::Choice(all) => write!(f, "one of {}", all.join(", ")),
            Self::Counts(_) => f.write_str("list of whole numbers"),
            Self::Tables => f.write_str("list of tables"),
        }
    }
}

/// Describes a TOML value for error messages: `the number 3`.
pub fn describe(value: &Value) -> String {
    match value {
        Value::String(_) => format!("the string {value}"),
        Value::Integer(_) | Value::Float(_) => format!("the number {value}"),
        Value::Boolean(_) => format!("{value}"),
        Value::Array(_) => format!("the list {value}"),
        Value::Datetime(_) => format!("the date {value}"),
        Value::Table(_) => "a table".to_string(),
    }
}

/// One key of the configuration. Its default is given by the section's [`Default`].
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The dotted name.
    pub name: &'static str,
    /// The type of the value.
    pub kind: Kind,
    /// The allowed values.
    pub range: Range,
    /// A further constraint in words, which involves other values or keys; empty if there is none.
    pub relation: &'static str,
    /// The unit of the value; empty for switches, choices and plain text.
    pub unit: &'static str,
    /// The meaning, in one line.
    pub doc: &'static str,
}

impl Key {
    /// A key of this kind with all other fields empty, to be filled in.
    pub const fn of(kind: Kind) -> Self {
        Self { name: "", kind, range: Range::Any, relation: "", unit: "", doc: "" }
    }

    /// The name without its section.
    pub fn leaf(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, leaf)| leaf)
    }
}

/// A section of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The name, which is the first part of its keys' names.
    pub name: &'static str,
    /// The subject, in one line.
    pub doc: &'static str,
    /// The keys, in the order in which they are written.
    pub keys: &'static [Key],
}

/// A Rust type of a key's value.
pub trait Field {
    /// The kind of a key of this type.
    const KIND: Kind;

    /// Whether the value lies in `range`, which must suit the kind.
    fn is_in(&self, range: &Range) -> bool {
        *range == Range::Any
    }

    /// The value as error messages display it.
    fn shown(&self) -> String;
}

impl Field for u64 {
    const KIND: Kind = Kind::Count;

    fn is_in(&self, range: &Range) -> bool {
        range.has_whole(*self)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Field for usize {
    const KIND: Kind = Kind::Count;

    fn is_in(&self, range: &Range) -> bool {
        range.has_whole(*self as u64)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Field for f64 {
    const KIND: Kind = Kind::Number;

    fn is_in(&self, range: &Range) -> bool {
        range.has_real(*self)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Field for bool {
    const KIND: Kind = Kind::Switch;

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Field for String {
    const KIND: Kind = Kind::Text;

    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Field for Vec<usize> {
    const KIND: Kind = Kind::Counts(None);

    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl<const N: usize> Field for [usize; N] {
    const KIND: Kind = Kind::Counts(Some(N));

    fn is_in(&self, range: &Range) -> bool {
        let Range::Each(all) = *range else { return false };
        all.len() == N && self.iter().zip(all).all(|(v, &(low, high))| v.is_in(&Range::Whole(low, high)))
    }

    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

/// Checks that `value` of `key` lies in `range`.
///
/// # Errors
/// A message that names the key, the value and the range.
pub fn check(key: &str, value: &impl Field, range: &Range) -> Result<(), String> {
    if value.is_in(range) { Ok(()) } else { refuse(key, value.shown(), &range.demand()) }
}

/// Checks that `value` lies in the range of the key called `name`, one of `keys`.
///
/// # Errors
/// A message that names the key, the value, the range and the further constraint.
pub fn check_key(keys: &[Key], name: &str, value: &impl Field) -> Result<(), String> {
    match keys.iter().find(|k| k.name == name) {
        Some(key) if !value.is_in(&key.range) => {
            let and = if key.relation.is_empty() { "" } else { "; " };
            refuse(name, value.shown(), &format!("{}{and}{}", key.range.demand(), key.relation))
        }
        _ => Ok(()),
    }
}

/// Rejects `value` of `key` for the reason `why`.
///
/// # Errors
/// Always, with a message that names the key and the value.
pub fn refuse(key: &str, value: impl Display, why: &str) -> Result<(), String> {
    Err(format!("`{key}` = {value}: {why}"))
}

/// Defines a section: a struct with one field per key, its defaults, the table of its keys and the check of their
/// ranges.
///
/// A row is `/// doc`, then `name: type = default`, then, as applicable, `kind` if the type does not determine it, `in`
/// with the allowed [`Range`], `also "…"` with a further constraint and `unit "…"`. The documentation of a field is the
/// description of its key. `#[serde(default)]` goes on keys that files of older versions lack.
///
/// At the end, `sections` may name nested sections, each a field.
#[doc(hidden)]
#[macro_export]
macro_rules! __config_section {
    (
        $(#[doc = $about:literal])+
        pub struct $Section:ident, $prefix:literal {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($serde:ident)])?
                $key:ident: $type:ty = $default:expr
                $(, kind $kind:expr)? $(, in $range:expr)? $(, also $relation:literal)? $(, unit $unit:literal)?;
            )+
        }
        $(
            sections {
                $( $(#[doc = $sub_doc:literal])+ $sub:ident: $Sub:ty; )+
            }
        )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Section {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                $(#[serde($serde)])?
                pub $key: $type,
            )+
            $($( $(#[doc = $sub_doc])+ pub $sub: $Sub, )+)?
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $( $key: $default, )+ $($( $sub: <$Sub>::default(), )+)? }
            }
        }

        impl $Section {
            /// The keys of this level, in the order in which they are written.
            pub const KEYS: &'static [$crate::config::rows::Key] = &[$(
                $crate::config::rows::Key {
                    name: concat!($prefix, stringify!($key)),
                    doc: concat!($($doc),+).trim_ascii(),
                    $(range: $range,)?
                    $(relation: $relation,)?
                    $(unit: $unit,)?
                    $(kind: $kind,)?
                    ..$crate::config::rows::Key::of(<$type as $crate::config::rows::Field>::KIND)
                },
            )+];

            $(
                /// The nested sections, in the order in which they are written.
                pub const SECTIONS: &'static [$crate::config::rows::Section] = &[$(
                    $crate::config::rows::Section {
                        name: stringify!($sub),
                        doc: concat!($($sub_doc),+).trim_ascii(),
                        keys: <$Sub>::KEYS,
                    },
                )+];
            )?

            /// Checks the range of each value, but not the relations between keys.
            ///
            /// # Errors
            /// A message that names the key, its value and the range allowed.
            pub fn check_ranges(&self) -> Result<(), String> {
                $( $crate::config::rows::check_key(Self::KEYS, concat!($prefix, stringify!($key)), &self.$key)?; )+
                $($( self.$sub.check_ranges()?; )+)?
                Ok(())
            }
        }
    };
}

/// Defines an enum of the values of a key, each with its string in the configuration.
#[doc(hidden)]
#[macro_export]
macro_rules! __config_choice {
    (
        $(#[$about:meta])+
        pub enum $Choice:ident {
            $( $(#[$doc:meta])+ $Variant:ident = $name:literal, )+
        }
    ) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $Choice {
            $( $(#[$doc])+ #[serde(rename = $name)] $Variant, )+
        }

        impl $Choice {
            /// The string of this value in a configuration.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$Variant => $name, )+ }
            }
        }

        impl $crate::config::rows::Field for $Choice {
            const KIND: $crate::config::rows::Kind = $crate::config::rows::Kind::Choice(&[$($name),+]);

            fn shown(&self) -> String {
                self.name().to_string()
            }
        }
    };
}

pub use crate::{__config_choice as choice, __config_section as section};
