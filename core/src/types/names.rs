//! Values that are written and read by name.

use std::fmt;

/// A name that nothing has, among those that are known.
///
/// ```
/// use shardgram_core::Receivers;
/// let error = "x".parse::<Receivers>().unwrap_err();
/// assert_eq!(error.names, ["auto", "per-shard", "one"]);
/// assert_eq!(error.to_string(), "unknown receivers 'x': it is auto, per-shard or one");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct UnknownName {
    /// What was to be named.
    pub what: &'static str,
    /// The name that was given.
    pub given: String,
    /// The names there are; the last may be an example of many.
    pub names: &'static [&'static str],
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, given, names } = self;
        write!(f, "unknown {what} '{given}': it is ")?;
        match names {
            [] => f.write_str("none"),
            [only] => f.write_str(only),
            [others @ .., last] => write!(f, "{} or {last}", others.join(", ")),
        }
    }
}

impl std::error::Error for UnknownName {}

/// `Display` and `FromStr` of a type, from one list of its names and values. One that carries something, and so has many
/// names, comes last, with an example of them and a function for each direction.
macro_rules! named {
    (
        $type:ident, $what:literal,
        { $($name:literal => $value:ident),+ $(,)? }
        $(or $example:literal => $carrying:ident, $write:path, $read:path)?
    ) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$value => f.write_str($name),)+
                    $(Self::$carrying(value) => $write(value, f),)?
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($name => return Ok(Self::$value),)+
                    _ => {}
                }
                $(if let Some(value) = $read(text) {
                    return Ok(Self::$carrying(value));
                })?
                let names = &[$($name,)+ $($example,)?];
                Err($crate::UnknownName { what: $what, given: text.to_owned(), names })
            }
        }
    };
}

pub(crate) use named;
