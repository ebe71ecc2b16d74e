//! What the server does with a datagram.

use std::fmt;
use std::str::FromStr;

/// What `--mode` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    Echo,
    Sink,
    FanOut,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "echo" => Ok(Self::Echo),
            "sink" => Ok(Self::Sink),
            "fan-out" => Ok(Self::FanOut),
            _ => Err("it is echo, sink or fan-out".to_owned()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pattern {
    /// It sends it back.
    Echo,
    /// It takes it. What arrived is known of the embedded server only.
    Sink,
    /// It sends it to every subscriber. The first flows publish, the others subscribe.
    FanOut { publishers: u32, subscribers: u32 },
}

impl Pattern {
    /// How many datagrams are to arrive for each that is sent.
    pub(crate) fn deliveries(self) -> u64 {
        match self {
            Self::Echo | Self::Sink => 1,
            Self::FanOut { subscribers, .. } => subscribers.into(),
        }
    }

    /// Flows that send.
    pub(crate) fn senders(self, flows: u32) -> u32 {
        match self {
            Self::Echo | Self::Sink => flows,
            Self::FanOut { publishers, .. } => publishers,
        }
    }

    /// Whether a flow gets replies to what it sent itself.
    pub(crate) fn replies(self) -> bool {
        self == Self::Echo
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
            Self::Sink => "sink",
            Self::FanOut { .. } => "fan-out",
        })
    }
}
